"""Several sets as one: their records one after another, no identity shared."""

from typing import Any

import numpy as np


class JoinedSource:
    """Sets of images whose identities are taken to be different people.

    Record i of set k is record n_1 + .. + n_{k-1} + i, and likewise its label.
    """

    def __init__(self, sources: list[Any]):
        """Joins at least one source (`sources.Source`)."""
        self.name = " + ".join(source.name for source in sources)
        self.num_classes = sum(source.num_classes for source in sources)
        self._sources = sources
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        self._first = np.cumsum([0, *(source.num_classes for source in sources)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1."""
        parts = zip(self._sources, self._first, strict=False)
        labels = [source.labels() + first for source, first in parts]
        return np.concatenate(labels).astype(np.int32)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and int32 labels of the records."""
        indices = np.asarray(indices)
        images: list[bytes] = [b""] * len(indices)
        labels = np.empty(len(indices), np.int32)
        owners = self._owners(indices)
        for number in np.unique(owners):
            rows = np.flatnonzero(owners == number)
            own = indices[rows] - self._starts[number]
            found, found_labels = self._sources[number].fetch(own)
            labels[rows] = found_labels + self._first[number]
            for row, image in zip(rows, found, strict=True):
                images[row] = image
        return images, labels

    def record_name(self, index: int) -> str:
        """Returns where record `index` comes from."""
        from qface_jax.data_pipelines.sources.source import record_name

        number = int(self._owners(np.asarray(index)))
        return record_name(self._sources[number], int(index - self._starts[number]))

    def describe(self) -> dict:
        """Returns the facts of each set and their sums."""
        facts = [source.describe() for source in self._sources]
        return {
            "source": "joined",
            "path": ", ".join(str(fact.get("path")) for fact in facts),
            "images": len(self),
            "identities": self.num_classes,
            "joined": facts,
            "notes": [note for fact in facts for note in fact.get("notes", [])],
        }

    def _owners(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, indices, side="right") - 1
