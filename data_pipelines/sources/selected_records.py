"""Some records of a source, such as those of the identities with enough images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sources.records import Source, record_name
from qface_jax.errors import DataError


class SelectedRecords:
    """A source with fewer records.

    Records keep their order. Identities that have none left are gone; the others are
    renumbered 0 .. c-1 in their old order.

    Attributes:
        left_out_identities: that had images in the whole source and have none here.
        left_out_images: of the whole source that are not here.
    """

    def __init__(self, source: Source, rows: np.ndarray, facts: Mapping[str, Any]):
        """Renumbers the identities.

        Args:
            source: what to take from.
            rows: numbers of the records that stay, int [k], increasing, at least one.
            facts: json-able, why these; added to those of the source.
        """
        labels = source.labels()
        taken = labels[rows]
        stays = np.zeros(source.num_classes, bool)
        stays[taken] = True
        had_images = np.zeros(source.num_classes, bool)
        had_images[labels] = True
        renumbered = np.cumsum(stays, dtype=np.int32) - 1
        self.name = source.name
        self.num_classes = int(stays.sum())
        self.left_out_identities = int(had_images.sum()) - self.num_classes
        self.left_out_images = len(labels) - len(rows)
        self._source, self._rows, self._facts = source, rows, dict(facts)
        self._labels = renumbered[taken].astype(np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> np.ndarray:
        """Returns int32 [k], renumbered."""
        return self._labels

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and renumbered labels of the given records."""
        indices = np.asarray(indices)
        images, _ = self._source.fetch(self._rows[indices])
        return images, self._labels[indices]

    def record_name(self, index: int) -> str:
        """Returns where record `index` comes from."""
        return record_name(self._source, int(self._rows[index]))

    def describe(self) -> dict:
        """Returns the facts of the whole source with the counts that are left."""
        return (
            self._source.describe()
            | {"images": len(self), "identities": self.num_classes}
            | self._facts
        )


def large_identities(source: Source, minimum: int) -> SelectedRecords:
    """Returns a source without the identities that have too few images.

    Args:
        source: what to take from.
        minimum: images that an identity needs to stay, at least 1.

    Raises:
        DataError: where no identity has that many.
    """
    labels = source.labels()
    counts = np.bincount(labels, minlength=source.num_classes)
    stays = counts >= minimum
    if not stays.any():
        raise DataError(
            f"data.drop_small_identities: got {minimum}, but the largest identity "
            f"of {source.describe().get('path', source.name)} has {counts.max()} "
            "images"
        )
    facts = {
        "drop_small_identities": minimum,
        "left_out_identities": int(np.count_nonzero(counts) - stays.sum()),
        "left_out_images": int(counts[~stays].sum()),
    }
    return SelectedRecords(source, np.flatnonzero(stays[labels]), facts)
