"""From the folder of a run, or a file of weights, to a model in use."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from qface_jax import tables
from qface_jax.api.model import BATCH_SIZE, Model
from qface_jax.errors import ConfigError
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.quality_score import checkpoint_parts, names_of
from qface_jax.runs import run_folder
from qface_jax.sharded import parallel
from qface_jax.weights import importing, structures
from qface_jax.weights.convention import PRESETS
from qface_jax.weights.imported_run import config_of

_ENDINGS = (".onnx", ".pt", ".pth", ".ckpt", ".safetensors")
_CHOICES = {
    "structure": (*structures.NAMES, importing.ONNX),
    "preprocess": tuple(PRESETS),
    "color_order": ("RGB", "BGR"),
}


def load(
    model: str | Path,
    *,
    which: str = "last",
    quality_scores: Collection[str] = (),
    structure: str = "auto",
    preprocess: str | None = None,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
    color_order: str | None = None,
) -> Model:
    """Loads a model for use, on all devices.

    Args:
        model: Folder of a run (the --workdir of `qface train`, OUT of `qface import`),
            or a file `.onnx`, `.pt`, `.pth`, `.ckpt` or `.safetensors`, which is read
            into memory; nothing in it is executed, nothing is written.
        which: Checkpoint of a run, "last" or "best".
        quality_scores: Scores of your own besides the model's, `module:object`.
        structure: Of a file, what the network is; "auto": by the names of its tensors.
        preprocess: Of a file, what the network takes: a name of
            `qface_jax.weights.convention.PRESETS`. None: as its structure is published;
            "insightface" for `.onnx`.
        mean: Of a file, instead of the preset's; one number or three (R, G, B), of
            pixels 0..255.
        std: Likewise.
        color_order: Of a file, "RGB" or "BGR", instead of the preset's.

    Raises:
        ConfigError: There is no such model, or an option does not go with it.
        DataError: A file cannot be read, or is of no known structure.

    For example::

        model = qface_jax.load("RUN")
        same = model.similarity("a.jpg", "b.jpg")[0, 0] > 0.4
    """
    path = Path(model).expanduser()
    for name in quality_scores:
        tables.trust(name)
    of_file = {
        "structure": None if structure == "auto" else structure,
        "preprocess": preprocess,
        "mean": mean,
        "std": std,
        "color_order": color_order,
    }
    if path.is_dir():
        named = [name for name, value in of_file.items() if value is not None]
        if named:
            raise ConfigError(
                f"{', '.join(named)}: got some, but {path} is the folder of a run, "
                "which says how its images are given to it; leave them out"
            )
        return _of_run(path, which, quality_scores)
    if not path.exists():
        raise ConfigError(
            f"{path}: no such file or folder; give the folder of a run, or a file "
            f"{', '.join(_ENDINGS)}"
        )
    if which != "last":
        raise ConfigError(
            f"which: got {which!r}, but {path} is no folder of a run and has no "
            "checkpoints; leave it out"
        )
    for name, value in of_file.items():
        if name in _CHOICES and value is not None and value not in _CHOICES[name]:
            raise ConfigError(
                f"{name}: got {value!r}, must be one of {', '.join(_CHOICES[name])}"
            )
    user_input = importing.Input(preprocess, _numbers(mean), _numbers(std), color_order)
    return _of_file(path, structure, user_input, quality_scores)


def _numbers(value: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    if value is None or isinstance(value, tuple):
        return value
    return (float(value),)


def _of_run(path: Path, which: str, scores: Collection[str]) -> Model:
    embedder = Embedder.from_run(
        run_folder.read(path),
        which,
        parallel.make_mesh(),
        batch_size=BATCH_SIZE,
        quality_scores=scores,
    )
    notes = [f"checkpoint of step {embedder.step} ({which})"]
    return Model(embedder, path=path, notes=notes)


def _of_file(
    path: Path, structure: str, user_input: importing.Input, scores: Collection[str]
) -> Model:
    read = importing.read(path, structure=structure, user_input=user_input)
    config = config_of(read.imported.model)
    names = names_of(config, scores)
    parts: dict[str, Any] = {path: {} for path in checkpoint_parts(names)}
    parts |= {"params/backbone": read.imported.params, "stats": read.imported.stats}
    embedder = Embedder.of_parts(
        parts, config, parallel.make_mesh(), names=names, batch_size=BATCH_SIZE
    )
    return Model(embedder, path=path, notes=read.notes)
