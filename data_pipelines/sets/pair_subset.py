"""A part of a verification set, for an evaluation that shall not take long."""

import numpy as np

from qface_jax.data_pipelines.sets.pair_sets import PairSet


class PairSubset:
    """Some pairs of a set, in their order; pair i is images 2i and 2i + 1.

    Attributes:
        name: of the set.
        issame: bool [p].
        folds: that the set is published with; 0: not known.
        landmarks: of each image, float32 [2p, 5, 2], px; None: they are not known.
        missing: numbers of the images that are known to be missing.
        numbers: of the images in the whole set, int64 [2p].
    """

    def __init__(self, pair_set: PairSet, pairs: np.ndarray):
        """Takes the whole set and which of its pairs are left, increasing."""
        self.name, self.folds = pair_set.name, pair_set.folds
        self.issame = np.asarray(pair_set.issame, bool)[pairs]
        self.numbers = (2 * pairs[:, np.newaxis] + np.arange(2)).ravel()
        landmarks = getattr(pair_set, "landmarks", None)
        self.landmarks = None if landmarks is None else landmarks[self.numbers]
        missing = list(getattr(pair_set, "missing", ()))
        self.missing = np.flatnonzero(np.isin(self.numbers, missing)).tolist()
        self._whole = pair_set

    def __len__(self) -> int:
        return len(self.numbers)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded images; thread-safe."""
        return self._whole.fetch(self.numbers[np.asarray(indices)])

    def describe(self) -> dict:
        """Returns the facts of the set, and how much of it this is."""
        facts = self._whole.describe()
        note = (
            f"{len(self.issame):,} of the {len(self._whole.issame):,} pairs, evenly "
            "spread over folds and kinds; --config.eval.max_pairs=0 takes all"
        )
        return facts | {
            "images": len(self),
            "pairs": len(self.issame),
            "same": int(self.issame.sum()),
            "whole": False,
            "notes": [*facts.get("notes", ()), note],
        }


def at_most(pair_set: PairSet, count: int, *, folds: int) -> PairSet:
    """Returns a set, or as many of its pairs of one person as of two from each fold.

    Args:
        pair_set: the set.
        count: pairs at most; 0: all. Each fold keeps one pair of each kind at least.
        folds: contiguous folds that the set is cut into.

    Returns:
        The set itself where it is not larger, or a fold lacks one of the kinds.
    """
    issame = np.asarray(pair_set.issame, bool)
    if count == 0 or len(issame) <= count:
        return pair_set
    parts = np.array_split(np.arange(len(issame)), folds)
    kinds = [part[issame[part] == kind] for part in parts for kind in (True, False)]
    each = min(max(count // (2 * folds), 1), *map(len, kinds))
    if each == 0:
        return pair_set
    chosen = [
        rows[np.linspace(0, len(rows) - 1, each).round().astype(np.int64)]
        for rows in kinds
    ]
    return PairSubset(pair_set, np.sort(np.concatenate(chosen)))
