"""A verification set as it is evaluated: an unusable image counts and ends nothing."""

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
