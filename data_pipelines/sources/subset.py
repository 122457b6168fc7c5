"""A random share of a source, the same for every seed of the training."""

from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.sources.records import Source
from qface_jax.data_pipelines.sources.selected_records import SelectedRecords
from qface_jax.errors import DataError

OF = ("images", "identities")  # what a share can be of


class Subset(NamedTuple):
    """Which random share of a source is taken.

    Attributes:
        share: within (0, 1]; of n, round(share n) are taken, at least one.
        of: "images", whosever they are; or "identities", each with all its images.
        seed: 0 .. 2^31 - 1.
    """

    share: float
    of: str
    seed: int


def random_subset(source: Source, subset: Subset) -> SelectedRecords:
    """Draws a share of the images, or of the identities, without replacement.

    The same records are drawn on every host and by every version of NumPy. For one
    seed a smaller share is part of a larger one. Besides the labels, the memory that
    is needed is 8 bytes for each image.

    Args:
        source: what to take from; identities without an image are never drawn.
        subset: how much of what.

    Raises:
        ValueError: the share or what it is of is unknown.
    """
    share, of, seed = subset
    facts = {"subset": share, "subset_of": of, "subset_seed": seed}
    return SelectedRecords(source, np.flatnonzero(_drawn(source, subset)), facts)


def outside_subset(source: Source, subset: Subset) -> SelectedRecords:
    """Returns what `random_subset` leaves out, such as people to choose settings on.

    Args:
        source: as there.
        subset: as there.

    Raises:
        DataError: nothing is left out.
        ValueError: as there.
    """
    rows = np.flatnonzero(~_drawn(source, subset))
    if not len(rows):
        raise DataError(
            f"a subset of {subset.share:g} of the {subset.of} of "
            f"{source.describe().get('path', source.name)} leaves nothing out; give a "
            "smaller share"
        )
    return SelectedRecords(source, rows, {"outside_subset": subset._asdict()})


def _drawn(source: Source, subset: Subset) -> np.ndarray:
    """Which records are drawn, bool [n]."""
    share, of, seed = subset
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, must be within (0, 1]")
    if of not in OF:
        raise ValueError(f"of: got {of!r}, must be one of {', '.join(OF)}")
    # The streams of RandomState are frozen; those of Generator may change.
    shuffle = np.random.RandomState(seed).permutation
    if of == "images":
        drawn = np.zeros(len(source), bool)
        drawn[_first(shuffle(len(source)), share)] = True
        return drawn
    labels = source.labels()
    stays = np.zeros(source.num_classes, bool)
    stays[_first(shuffle(np.unique(labels)), share)] = True
    return stays[labels]


def _first(shuffled: np.ndarray, share: float) -> np.ndarray:
    return shuffled[: max(1, round(share * len(shuffled)))]
