"""From a file of weights of any kind to a model of ours."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from qface_jax import models
from qface_jax.errors import ConfigError, DataError
from qface_jax.weights import convention, mapping, structures
from qface_jax.weights.convention import Convention
from qface_jax.weights.imported_run import ImportedModel, config_of, model_changes

if TYPE_CHECKING:
    from qface_jax.weights import onnx_entrance

ONNX = "onnx"  # the backbone that any ONNX file becomes, and so a structure


class Input(NamedTuple):
    """What the user says of the network's input; None: as its structure has it.

    Attributes:
        preset: Key of convention.PRESETS.
        mean: Of pixels 0..255: one number, or three in the order R, G, B.
        std: The same.
        color_order: "RGB" or "BGR".
    """

    preset: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color_order: str | None = None

    def convention(self, usual: str) -> Convention:
        """Returns the convention; `usual` is the preset where none was given."""
        return convention.choose(
            self.preset or usual,
            mean=self.mean,
            std=self.std,
            color_order=self.color_order,
        )

    @property
    def silent(self) -> bool:
        """Whether the user said nothing."""
        return self == Input()


class Read(NamedTuple):
    """A model that was read, and what there is to say of it.

    Attributes:
        imported: Weights, and what is said of their origin.
        reference: What its source takes, for the check of parity.
        notes: Lines for the user.
        precision: In which an ONNX file computes: float32, float16 or bfloat16.
    """

    imported: ImportedModel
    reference: Convention
    notes: list[str]
    precision: str = "float32"


def is_onnx(path: Path) -> bool:
    """Whether a file is called one of ONNX."""
    return path.suffix.lower() == ".onnx"


def read(path: Path, *, structure: str, user_input: Input, key: str = "") -> Read:
    """Returns the model that a file holds.

    Args:
        path: `.onnx`, `.safetensors`, or a file of torch.save.
        structure: One of `structures.NAMES`, "onnx", or "auto": by the names of its
            tensors.
        user_input: What the user says of its input.
        key: Which set of tensors of a PyTorch file that has several, by its dotted
            path, or by what their names begin with; "": the one under a usual name.

    Raises:
        ConfigError: if there is no such file, or it and the structure or the key do not
            go together.
        DataError: if it cannot be read, is of no known structure, or holds weights
            that are not finite.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if is_onnx(path):
        if structure not in ("auto", ONNX):
            raise ConfigError(
                f"--structure={structure}: an .onnx file brings its own structure; "
                "leave it out"
            )
        if key:
            raise ConfigError(
                f"--key={key}: an .onnx file holds one model; leave it out"
            )
        return _finite(path, _read_onnx(path, user_input))
    if structure == ONNX:
        raise ConfigError(
            f"--structure={ONNX}: {path} is no .onnx file and brings no structure; "
            f"give one of {', '.join(structures.NAMES)}"
        )
    return _finite(path, _read_tensors(path, structure, user_input, key))


def _finite(path: Path, model: Read) -> Read:
    imported = model.imported
    trees = {"params": imported.params, "stats": imported.stats, "head": imported.head}
    leaves = {
        jax.tree_util.keystr(place, simple=True, separator="/"): leaf
        for place, leaf in jax.tree_util.tree_leaves_with_path(trees)
    }
    bad = {
        name: int(leaf.size - np.isfinite(leaf).sum())
        for name, leaf in leaves.items()
        if not np.isfinite(leaf).all()
    }
    if bad:
        first, count = next(iter(bad.items()))
        raise DataError(
            f"{path}: {len(bad)} of {len(leaves)} weights hold NaN or infinity, as "
            f"{first} ({count:,} of {leaves[first].size:,} numbers); the training that "
            "it comes from diverged, or the file is damaged: take an earlier checkpoint"
        )
    return model


def _read_onnx(path: Path, user_input: Input) -> Read:
    from qface_jax.weights import onnx_file

    network = onnx_file.read(path)
    if network.input_side != models.IMAGE_SIDE:
        raise DataError(
            f"{path}: takes images of {network.input_side} px, all faces here are of "
            f"{models.IMAGE_SIDE}; export it for that size"
        )
    usual = network.entrance.takes or convention.DEFAULT
    source = user_input.convention(usual)
    changes = model_changes(
        ONNX, network.embedding_dim, source, graph=network.graph.pack()
    )
    notes = [f"read an ONNX graph of opset {network.opset}"]
    if network.unused_outputs:
        others = ", ".join(network.unused_outputs)
        notes.append(f"its first output is the feature; left out: {others}")
    notes += _entrance_notes(network.entrance, source, user_input)
    imported = ImportedModel(
        changes, network.params, network.stats, {}, _source(path, source)
    )
    return Read(imported, source, notes, network.precision)


def _entrance_notes(
    entrance: "onnx_entrance.Entrance", source: Convention, user_input: Input
) -> list[str]:
    operators = ", ".join(entrance.operators)
    if not entrance.takes:
        if user_input.silent:
            return [_assumed(source, "an ONNX file does not say it")]
        return []
    normalises = f"the graph normalises by itself, its first operators are {operators}"
    if user_input.silent:
        return [_assumed(source, normalises)]
    if (source.mean, source.std) != convention.PRESETS[entrance.takes][:2]:
        return [
            f"warning: {normalises}; {source} is applied before it, as was asked for"
        ]
    return [normalises]


def _read_tensors(path: Path, structure: str, user_input: Input, key: str) -> Read:
    from qface_jax.weights import state_dict

    tensors, said = state_dict.read(path, key)
    exported = state_dict.facts(path)
    if user_input.silent and {"mean", "std", "color_order"} <= exported.keys():
        user_input = Input(
            None,
            tuple(exported["mean"]),
            tuple(exported["std"]),
            exported["color_order"],
        )
        source = user_input.convention(convention.DEFAULT)
        said.append(f"takes {source} of pixels 0..255, as the file says")
    try:
        model = model_of(tensors, path, structure=structure, user_input=user_input)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return model._replace(notes=[*model.notes, *said])


def model_of(
    tensors: dict[str, np.ndarray], path: Path, *, structure: str, user_input: Input
) -> Read:
    """Returns the model that named tensors are; arguments as in `read`.

    Raises:
        DataError: if they are of no known structure, or do not fill it.
    """
    shapes = {name: values.shape for name, values in tensors.items()}
    recognised = structures.recognise(shapes, structure)
    source = user_input.convention(recognised.convention)
    # The first convolution is turned to RGB, so that nothing is left to do each step.
    changes = model_changes(
        recognised.backbone,
        recognised.embedding_dim,
        source._replace(color_order="RGB"),
    )
    params, stats = our_shapes(changes)
    mapped = mapping.map_tensors(tensors, recognised, params=params, stats=stats)
    notes = [
        f"{recognised.family.title} by the names of its tensors: {recognised.backbone}"
        + (f", prefix {recognised.prefix!r} left out" if recognised.prefix else "")
    ]
    if mapped.folded:
        notes.append(
            f"{mapped.folded} batch norms had been folded into convolutions; they are "
            "there again, as ones that only add the bias"
        )
    if mapped.left_out:
        notes.append(f"{len(mapped.left_out)} tensors are no weights: left out")
    if source.color_order == "BGR":
        mapping.reverse_colours(mapped.params, recognised.family.first)
        notes.append("the first convolution was turned from BGR to RGB")
    if user_input.silent:
        notes.append(_assumed(source, f"as {recognised.convention} publishes it"))
    imported = ImportedModel(
        changes, mapped.params, mapped.stats, mapped.head, _source(path, source)
    )
    return Read(imported, source, notes)


def _assumed(source: Convention, why: str) -> str:
    return (
        f"input taken to be {source} of pixels 0..255, {why}; if it is another, say "
        "--preprocess, --mean, --std or --color-order"
    )


def _source(path: Path, source: Convention) -> dict[str, Any]:
    return {
        "file": str(path.absolute()),
        "input_mean": list(source.mean),
        "input_std": list(source.std),
        "color_order": source.color_order,
    }


def our_shapes(changes: dict[str, Any]) -> tuple[dict, dict]:
    """Returns path -> shape of our params and stats; nothing is allocated.

    Args:
        changes: To the `model` group of the base config.
    """
    model = models.build(config_of(changes).model)
    trees = jax.eval_shape(model.init, jax.random.key(0))
    return tuple(
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in trees
    )
