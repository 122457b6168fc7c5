"""What is minimised in training: one file an objective, each with what it needs."""

from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.configs.document import options_of
from qface_jax.objectives.objective import Hooks, Objective, ObjectiveEntry
from qface_jax.tables import OBJECTIVES


def entry(config: ConfigDict) -> ObjectiveEntry:
    """Returns the entry that `config.objective` names."""
    return OBJECTIVES[config.objective]


def _options(config: ConfigDict) -> dict[str, Any]:
    """Values of the options of the config's objective."""
    return options_of(config, "objective", config.objective)


def build(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    """Returns the objective that `config.objective` names.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set.
        mesh: Mesh over which batch and class centres are cut.
    """
    return entry(config).build(config, _options(config), num_classes, mesh)


def hooks(
    config: ConfigDict, *, source: Any, mesh: Mesh, batches: Callable[..., Any]
) -> Hooks:
    """Returns what the config's objective does beside the steps.

    Args:
        config: The whole config, validated.
        source: The training data.
        mesh: Mesh over which batches are cut.
        batches: (first step, end) -> iterator over this host's rows.

    Raises:
        DataError: something that it needs cannot be read.
    """
    return entry(config).hooks(
        config, _options(config), source=source, mesh=mesh, batches=batches
    )
