"""Some pictures of a set by number, to be read like the pictures of a pair set."""

import copy
from collections.abc import Callable

import numpy as np

from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.data_pipelines.sources.skipping_source import InPlace, SkippingSource
from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import order


class ChosenRecords:
    """Pictures of a set by number, in any order."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[np.ndarray], list[bytes]],
        rows: np.ndarray,
        *,
        transforms: np.ndarray | None = None,
        place: Callable[[int], str] | None = None,
        skipping: SkippingSource | None = None,
    ):
        """Remembers which.

        Args:
            name: of the set.
            fetch: numbers of pictures, [k] -> the encoded pictures.
            rows: which, [n].
            transforms: of every picture of the set that is to be aligned, from its px
                to those of the crop, [m, 2, 3].
            place: number of a picture of a training set -> where it comes from, for
                messages; None: the set is no training set.
            skipping: whose records they are; broken ones are black, and it knows them.
        """
        self.name = name
        self._fetch, self._rows = fetch, np.asarray(rows, np.int64)
        self._place = place or (lambda row: f"{name}: image {row}")
        self.of_training = place is not None
        self._skipping = skipping
        self.transforms = None if transforms is None else transforms[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded pictures at these places of the list."""
        return self._fetch(self._rows[np.asarray(indices)])

    def place(self, index: int) -> str:
        """Returns where the picture at a place of the list comes from."""
        return self._place(int(self._rows[index]))

    @property
    def skipping(self) -> InPlace | None:
        """Takes note of pictures that cannot be decoded; None: they are errors."""
        return self._skipping and InPlace(self._skipping, self._rows)

    def usable(self) -> np.ndarray:
        """Returns which pictures are not known to be broken so far, bool [n]."""
        broken = list(self._skipping.broken) if self._skipping else []
        return ~np.isin(self._rows, broken)

    def part(self, first: int, end: int) -> "ChosenRecords":
        """Returns those at the places first .. end - 1."""
        part = copy.copy(self)
        part._rows = self._rows[first:end]
        if self.transforms is not None:
            part.transforms = self.transforms[first:end]
        return part


def of_source(source: Source, rows: np.ndarray) -> ChosenRecords:
    """Returns records of a training set, without their labels.

    Args:
        source: the records.
        rows: their numbers, [n].
    """
    skipping = source if isinstance(source, SkippingSource) else None

    def fetch(rows: np.ndarray) -> list[bytes]:
        if skipping is not None:
            return skipping.fetch_in_place(rows)
        return source.fetch(rows)[0]

    return ChosenRecords(
        source.name,
        fetch,
        rows,
        place=lambda row: record_name(source, row),
        skipping=skipping,
    )


def of_pairs(pair_set: PairSet, rows: np.ndarray) -> ChosenRecords:
    """Returns pictures of a pair set.

    Args:
        pair_set: picture 2i and 2i + 1 are pair i.
        rows: their numbers, [n].
    """
    return ChosenRecords(pair_set.name, pair_set.fetch, rows)


def first_of_run(source: Source, count: int, *, seed: int) -> ChosenRecords:
    """Returns the first records in the order in which a run takes them.

    Args:
        source: the records.
        count: how many at most.
        seed: of the run.
    """
    return of_source(source, usable_first(source, count, seed=seed))


def usable_first(source: Source, count: int, *, seed: int) -> np.ndarray:
    """Returns the first records in the order of a run, without broken ones, int64 [n].

    Args:
        source: where broken records are skipped, these are decoded to see which.
        count: how many at most.
        seed: of the run.
    """
    rows = order.first_records(count, seed=seed, num_records=len(source))
    return source.usable(rows) if isinstance(source, SkippingSource) else rows
