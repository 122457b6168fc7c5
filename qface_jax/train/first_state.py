"""The state that a run begins or goes on with."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from qface_jax.errors import ConfigError
from qface_jax.processes import hosts
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.train.class_means import with_class_means
from qface_jax.train.setup import Setup, fresh_state
from qface_jax.train.state import TrainState
from qface_jax.train.warm_start import report, warm_start


def check_start(config: ConfigDict, init_from: Path | None) -> None:
    """Raises ConfigError where a new run needs another one to start from."""
    if config.classifier.centres == "class_means" and init_from is None:
        raise ConfigError(
            "classifier.centres: is class_means, the features of a model that training "
            "starts from: give --init-from=RUN, or --config.classifier.centres=random"
        )


def first_state(
    config: ConfigDict,
    source: Any,
    setup: Setup,
    checkpoints: Checkpoints,
    run: Path,
    init_from: Path | None,
    started: TrainState | None,
) -> TrainState:
    """Returns 1 this run's last state, 2 another run's weights, or 3 a fresh state.

    Args:
        config: Of the run.
        source: Its training data.
        setup: Its parts.
        checkpoints: What it has saved.
        run: Its folder.
        init_from: Folder of the run that it was asked to start from.
        started: From `start_from`, where this is a new run with one.

    Raises:
        ConfigError: it has done more steps than the config asks for.
    """
    state = checkpoints.restore_latest(setup.abstract)
    if state is None:
        if started is not None:
            return started
        facts = run_folder.read(run)
        if facts.facts["init_from"] is None:
            return fresh_state(setup)
        # Killed before its first checkpoint: it starts again as it did then.
        return start_from(config, source, setup, Path(facts.facts["init_from"]))
    if init_from is not None:
        hosts.say(f"this run has a checkpoint: going on with it, not from {init_from}")
    if int(state.step) > setup.length.total_steps:
        raise ConfigError(
            f"{run}: this run has done {int(state.step)} steps, the config asks for "
            f"{setup.length.total_steps}; give another --workdir, or evaluate it with "
            "qface eval"
        )
    return state


def start_from(
    config: ConfigDict, source: Any, setup: Setup, init_from: Path
) -> TrainState:
    """Returns the fresh state with what fits of another run's weights, and says it.

    Args:
        config: Of the run.
        source: Its training data.
        setup: Its parts.
        init_from: Folder of the other run.
    """
    classes = source.num_classes
    started = warm_start(fresh_state(setup), init_from, num_classes=classes)
    hosts.say(report(started, init_from))
    if config.classifier.centres == "class_means":
        return with_class_means(config, source, setup, started.state)
    return started.state
