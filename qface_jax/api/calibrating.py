"""Which evaluation a model is calibrated by: its own."""

import os
from pathlib import Path

from qface_jax.api.model import Model
from qface_jax.errors import ConfigError
from qface_jax.evals import calibration, results
from qface_jax.evals.calibration import Calibration
from qface_jax.runs import run_folder


def calibration_of(model: Model, path: Path) -> Calibration:
    """Returns what an evaluation says of a model's similarities.

    Args:
        model: From `load`.
        path: Result of an evaluation of it: RUN/eval/SET.json. Of a model in a file:
            of the run that `qface import` made of this file.

    Raises:
        ConfigError: It is of another model, or of another checkpoint.
        DataError: It is no result.
    """
    evaluation = calibration.read(path)
    run = Path(str(evaluation.checkpoint.get("path", "")))
    step = evaluation.checkpoint.get("step")
    # A run may have been moved since: then its results lie in it.
    of_run = _same(run, model.path) or _same(evaluation.path.parent.parent, model.path)
    if not of_run and not _imported_from(run, model.path):
        raise ConfigError(
            f"{path}: is an evaluation of {run}, not of {model.path}; {how(model)}"
        )
    if of_run and step != model.embedder.step:
        raise ConfigError(
            f"{path}: is an evaluation of step {step}, the model is of step "
            f"{model.embedder.step}; give the same --which, or {how(model)}"
        )
    return evaluation


def how(model: Model) -> str:
    """Returns how a calibration of a model is made, in a few words."""
    if model.path.is_dir():
        paths = results.paths(model.path)
        there = f" (there: {', '.join(map(str, paths))})" if paths else ""
        return (
            f"`qface eval --checkpoint={model.path}` makes one, "
            f"--calibration={model.path}/{run_folder.EVAL}/SET.json takes it{there}"
        )
    return (
        f"`qface import {model.path} RUN` and `qface eval --checkpoint=RUN` make one, "
        f"--calibration=RUN/{run_folder.EVAL}/SET.json takes it"
    )


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _imported_from(run: Path, file: Path) -> bool:
    try:
        source = run_folder.read(run).facts.get(run_folder.IMPORTED) or {}
    except (ConfigError, OSError):
        return False
    return _same(Path(source.get("file", "")), file)
