"""A source whose broken records are left out while it is trained on.

A record is found to be broken when it is first read, so that sets of any size open at
once. Others take its place: the next image of the same identity, cyclically, which is
the same one in every run, whatever was read before.
"""

import logging
import threading
from collections.abc import Sequence

import numpy as np

from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError, counted

_log = logging.getLogger(__name__)
_NAMED = 20  # records that get a line of their own


class SkippingSource:
    """Another source, with usable records in the place of broken ones; thread-safe."""

    def __init__(self, source: Source, *, across_identities: bool):
        """Takes the source; nothing is read.

        Args:
            source: Training images.
            across_identities: Whether the next record of another identity may take the
                place of one whose identity has no usable image; False where images are
                drawn in pairs.
        """
        self.name = source.name
        self.num_classes = source.num_classes
        self._source = source
        self._across = across_identities
        self._broken: dict[int, str] = {}  # record -> why
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    @property
    def broken(self) -> dict[int, str]:
        """Records found broken so far, and why."""
        return dict(self._broken)

    def labels(self) -> np.ndarray:
        """Returns int32 [n], as of the source; broken records are not known yet."""
        return self._source.labels()

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and int32 labels; none is known to be broken.

        Raises:
            DataError: No record can take the place of a broken one.
        """
        while True:
            chosen = self.chosen(indices)
            try:
                images, labels = self._source.fetch(chosen)
                faults = list(map(_fault, images))
            except (DataError, OSError):
                faults = [self._fault_of_one(int(index)) for index in chosen]
                if not any(faults):
                    raise  # it is not a single record
            if not any(faults):
                return images, labels
            for index, fault in zip(chosen, faults, strict=True):
                if fault:
                    self.leave_out(int(index), fault)

    def chosen(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the records that are read for others, int64 [k]."""
        indices = np.array(indices, np.int64)
        if self._broken:
            for row, index in enumerate(indices):
                if int(index) in self._broken:
                    indices[row] = self._instead(int(index))
        return indices

    def leave_out(self, index: int, reason: str) -> None:
        """Notes that a record is broken, and says so."""
        with self._lock:
            if index in self._broken:
                return
            self._broken[index] = reason
            count = len(self._broken)
        if count <= _NAMED:
            _log.warning("left out: %s: %s", self.record_name(index), reason)
        elif count & (count - 1) == 0:
            _log.warning("left out so far: %s", counted(count, "record"))

    def record_name(self, index: int) -> str:
        """Returns where record `index` comes from."""
        return record_name(self._source, index)

    def describe(self) -> dict:
        """Returns the facts of the source."""
        return self._source.describe() | {"skip_broken": True}

    def _fault_of_one(self, index: int) -> str | None:
        try:
            images, _ = self._source.fetch(np.array([index]))
        except (DataError, OSError) as error:
            return str(error)
        return _fault(images[0])

    def _instead(self, index: int) -> int:
        """Returns the record that is taken for a broken one."""
        labels = self._source.labels()
        of_identity = np.flatnonzero(labels == labels[index])
        place = int(np.searchsorted(of_identity, index))
        for record in (*of_identity[place + 1 :], *of_identity[:place]):
            if int(record) not in self._broken:
                return int(record)
        if self._across:
            for step in range(1, len(self)):
                record = (index + step) % len(self)
                if record not in self._broken:
                    return record
        raise DataError(
            f"{self.record_name(index)}: {self._broken[index]}; data.skip_broken found "
            f"{'no' if self._across else 'no other'} usable image "
            f"{'in the whole set' if self._across else 'of this identity'}: remove "
            "what is broken, or fetch the data again"
        )


def _fault(image: bytes) -> str | None:
    """Says why bytes are no picture, as far as this shows before decoding."""
    try:
        picture.read(image)
    except PictureError as error:
        return str(error)
    return None
