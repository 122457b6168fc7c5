"""Some pictures of a set by number, to be read like the pictures of a pair set."""

from collections.abc import Callable

import numpy as np

from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.data_pipelines.sources.source import Source
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
    ):
        """Remembers which.

        Args:
            name: of the set.
            fetch: numbers of pictures, [k] -> the encoded pictures.
            rows: which, [n].
            transforms: of every picture of the set that is to be aligned, from its px
                to those of the crop, [m, 2, 3].
        """
        self.name = name
        self._fetch, self._rows = fetch, np.asarray(rows, np.int64)
        self.transforms = None if transforms is None else transforms[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded pictures at these places of the list."""
        return self._fetch(self._rows[np.asarray(indices)])

    def part(self, first: int, end: int) -> "ChosenRecords":
        """Returns those at the places first .. end - 1."""
        part = ChosenRecords(self.name, self._fetch, self._rows[first:end])
        if self.transforms is not None:
            part.transforms = self.transforms[first:end]
        return part


def of_source(source: Source, rows: np.ndarray) -> ChosenRecords:
    """Returns records of a training set, without their labels.

    Args:
        source: the records.
        rows: their numbers, [n].
    """
    return ChosenRecords(source.name, lambda rows: source.fetch(rows)[0], rows)


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
    rows = order.first_records(count, seed=seed, num_records=len(source))
    return of_source(source, rows)
