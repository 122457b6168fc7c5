"""A verification set as it is evaluated: all of it, or a part that takes less time.

An unusable image counts and ends nothing.
"""

from collections.abc import Sequence

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_images import UsableImages
from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.errors import DataError


class UsablePairs(UsableImages):
    """The images of a pair set; those that cannot be used are black.

    A set is evaluated at several resolutions, and again during training, so an image
    is looked at once and trusted from then on.

    Attributes:
        issame: bool [p].
        folds: that the set is published with; 0: not known.
        missing: numbers of the images that are known to be missing.
    """

    def __init__(self, pair_set: PairSet):
        """Takes the set; no image is read."""
        super().__init__(pair_set.name, getattr(pair_set, "landmarks", None))
        self.issame, self.folds = pair_set.issame, pair_set.folds
        self.missing = list(getattr(pair_set, "missing", ()))
        self._pairs = pair_set
        self._numbers = getattr(pair_set, "numbers", None)  # of a part of a set
        self._sound = np.zeros(len(pair_set), bool)

    def __len__(self) -> int:
        return len(self._pairs)

    def fetch(self, indices: Sequence[int]) -> list[bytes]:
        """Returns the encoded images; thread-safe."""
        indices = np.asarray(indices, np.int64)
        if self._sound[indices].all():
            try:
                return self._pairs.fetch(indices)
            except DataError:
                pass  # a file has gone; below it is said which
        images = super().fetch(indices)
        self._sound[indices] = [int(index) not in self.failures for index in indices]
        return images

    def read(self, index: int) -> bytes:
        """Returns the content of an image."""
        return self._pairs.fetch(np.array([index]))[0]

    def place(self, index: int) -> str:
        """Returns set and number of an image."""
        number = index if self._numbers is None else self._numbers[index]
        return f"{self.name}: image {number}"

    def describe(self) -> dict:
        """Returns the facts of the set."""
        return self._pairs.describe()


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
