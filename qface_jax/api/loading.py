"""From the folder of a run, or a file of weights, to a model in use."""

from collections.abc import Collection
from pathlib import Path

from qface_jax import tables
from qface_jax.api import model_weights
from qface_jax.api.model import BATCH_SIZE, Model
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.quality_score import checkpoint_parts, names_of
from qface_jax.sharded import parallel


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
    for name in quality_scores:
        tables.trust(name)
    weights = model_weights.read(
        model,
        which=which,
        parts=lambda config: checkpoint_parts(names_of(config, quality_scores)),
        structure=structure,
        preprocess=preprocess,
        mean=mean,
        std=std,
        color_order=color_order,
    )
    embedder = Embedder.of_parts(
        weights.parts,
        weights.config,
        parallel.make_mesh(),
        names=names_of(weights.config, quality_scores),
        batch_size=BATCH_SIZE,
        step=weights.step,
    )
    return Model(embedder, path=weights.path, notes=weights.notes)
