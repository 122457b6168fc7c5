"""The weights of a run's checkpoint, or of a file, in the memory of this host."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from qface_jax.errors import ConfigError
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import load_parts
from qface_jax.weights import importing, structures
from qface_jax.weights.convention import PRESETS
from qface_jax.weights.imported_run import config_of

BACKBONE, STATISTICS, HEAD = "params/backbone", "stats", "params/head"
_ENDINGS = (".onnx", ".pt", ".pth", ".ckpt", ".safetensors")
_CHOICES = {
    "structure": (*structures.NAMES, importing.ONNX),
    "preprocess": tuple(PRESETS),
    "color_order": ("RGB", "BGR"),
}


class ModelWeights(NamedTuple):
    """What was read.

    Attributes:
        path: Folder or file.
        config: Config of the run; the base config with the file's `model` group.
        parts: Path in a checkpoint -> nested dicts of arrays: BACKBONE, STATISTICS and
            what else was asked for, {} where the model has no such part.
        num_classes: Identities that it was trained on; 0: not known.
        step: Updates done; None: not known.
        notes: What there is to say of how it was read.
    """

    path: Path
    config: ConfigDict
    parts: Mapping[str, Any]
    num_classes: int
    step: int | None
    notes: tuple[str, ...]


def read(
    model: str | Path,
    *,
    which: str = "last",
    parts: Callable[[ConfigDict], Collection[str]] = lambda config: (),
    structure: str = "auto",
    preprocess: str | None = None,
    mean: float | tuple[float, ...] | None = None,
    std: float | tuple[float, ...] | None = None,
    color_order: str | None = None,
) -> ModelWeights:
    """Reads a model, as `qface_jax.load` names it.

    Args:
        model: As of `qface_jax.load`, as all others are.
        which: Checkpoint of a run.
        parts: The model's config -> further paths in the checkpoint.
        structure: Of a file.
        preprocess: Of a file.
        mean: Of a file.
        std: Of a file.
        color_order: Of a file.

    Raises:
        ConfigError: There is no such model, or an option does not go with it.
        DataError: A file cannot be read, or is of no known structure.
    """
    path = Path(model).expanduser()
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
        return _of_run(path, which, parts)
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
    return _of_file(path, structure, user_input, parts)


def _numbers(value: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    if value is None or isinstance(value, tuple):
        return value
    return (float(value),)


def _of_run(path: Path, which: str, parts: Any) -> ModelWeights:
    run = run_folder.read(path)
    wanted = dict.fromkeys((BACKBONE, STATISTICS, *parts(run.config)))
    step, saved = load_parts(run.path, which, tuple(wanted))
    notes = (f"checkpoint of step {step} ({which})",)
    return ModelWeights(path, run.config, saved, run.num_classes, step, notes)


def _of_file(
    path: Path, structure: str, user_input: importing.Input, parts: Any
) -> ModelWeights:
    reading = importing.read(path, structure=structure, user_input=user_input)
    imported = reading.imported
    config = config_of(imported.model)
    known = {
        BACKBONE: imported.params,
        STATISTICS: imported.stats,
        HEAD: imported.head,
    }
    saved: dict[str, Any] = {part: {} for part in parts(config)} | known
    classes = len(imported.head.get("centres", ()))
    return ModelWeights(path, config, saved, classes, None, tuple(reading.notes))
