"""What is minimised in training: one file an objective, each with what it needs."""

from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.recipe import draws_pairs
from qface_jax.objectives.objective import Hooks, Objective, ObjectiveEntry
from qface_jax.tables import OBJECTIVES, RECIPES, is_external

__all__ = ["OBJECTIVES", "build", "entry", "hooks", "problems"]


def entry(config: ConfigDict) -> ObjectiveEntry:
    """Returns the entry that `config.objective` names."""
    return OBJECTIVES[config.objective]


def _options(config: ConfigDict) -> dict[str, Any]:
    """Values of the options of the config's objective."""
    defaults = {name: option.default for name, option in entry(config).options.items()}
    if is_external(config.objective):
        group = config.get("own", {}).get("objective", {})
    else:
        group = config.get(config.objective, {})
    return defaults | dict(group)


def problems(config: ConfigDict) -> list[str]:
    """Returns a line for each value that does not go with the config's objective."""
    named, recipe, lines = entry(config), config.degrade.recipe, []
    if named.pairs != draws_pairs(recipe):
        recipes = ", ".join(filter(draws_pairs, RECIPES))
        pairs = ", ".join(name for name in OBJECTIVES if OBJECTIVES[name].pairs)
        lines.append(
            f"degrade.recipe: got {recipe} with objective {config.objective}; "
            f"objective {pairs} goes with {recipes} and with no other"
        )
    if named.pairs and config.data.batch_size % 2:
        lines.append(
            f"data.batch_size: got {config.data.batch_size}, must be even: objective "
            f"{config.objective} takes two images of each identity"
        )
    return lines + named.problems(config, _options(config))


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
