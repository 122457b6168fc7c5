"""The loss of a training step, built from the config: kernels, weights and states.

An objective is pure functions and the views they take, so that a new one is one more
builder in `OBJECTIVES` and reads its own config group.
"""

from collections.abc import Callable
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.objectives import classification, octuplet, qgface, recognizability
from qface_jax.objectives.objective import Objective

__all__ = ["OBJECTIVES", "Objective", "build", "takes_pairs", "views"]


class Entry(NamedTuple):
    """One objective.

    Attributes:
        build: (config, number of identities, mesh) -> Objective.
        views: Pictures of each image that it takes.
        pairs: A batch has two images of each of its identities.
    """

    build: Callable[[ConfigDict, int, Mesh], Objective]
    views: int
    pairs: bool = False


OBJECTIVES: dict[str, Entry] = {
    "classification": Entry(classification.build, views=1),
    "qgface": Entry(qgface.build, views=2),
    "octuplet": Entry(octuplet.build, views=2, pairs=True),
    "recognizability": Entry(recognizability.build, views=1),
}


def views(config: ConfigDict) -> int:
    """Returns how many pictures of each image the config's objective takes."""
    return OBJECTIVES[config.objective].views


def takes_pairs(config: ConfigDict) -> bool:
    """Returns whether a batch has two images of each of its identities."""
    return OBJECTIVES[config.objective].pairs


def build(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    """Returns the objective that `config.objective` names.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set.
        mesh: Mesh of all devices.
    """
    return OBJECTIVES[config.objective].build(config, num_classes, mesh)
