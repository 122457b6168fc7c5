"""A source whose broken records are left out while it is trained on.

A record is found to be broken when it is first read, so that sets of any size open at
once. In training others take its place: the next image of the same identity,
cyclically, which is the same one in every run, whatever was read before. What reads
records in their order, as the class means do, goes without it.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError, counted

UNREADABLE = "unreadable"  # kind of a fault: there are no bytes
_log = logging.getLogger(__name__)
_NAMED = 20  # records that get a line of their own
# A set of as many records is looked through when it is opened: that takes a second.
_LOOKED_THROUGH = 20_000
_THREADS = 16


class Fault(NamedTuple):
    """Why a record cannot be used.

    Attributes:
        kind: In a word, for counts.
        reason: In a sentence.
    """

    kind: str
    reason: str


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
        self._broken: dict[int, Fault] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    @property
    def broken(self) -> dict[int, str]:
        """Records found broken so far, and why."""
        return {index: fault.reason for index, fault in self._broken.items()}

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
                    self._note(int(index), fault)

    def fetch_in_place(self, indices: np.ndarray) -> list[bytes]:
        """Returns encoded images; one that is broken is black, none takes its place."""
        images = []
        for index in np.asarray(indices).tolist():
            encoded = b""
            if index not in self._broken:
                try:
                    encoded = self._source.fetch(np.array([index]))[0][0]
                    fault = _fault(encoded)
                except (DataError, OSError) as error:
                    fault = _fault_of_error(error)
                if fault:
                    self._note(index, fault)
            images.append(picture.black() if index in self._broken else encoded)
        return images

    def usable(self, indices: np.ndarray) -> np.ndarray:
        """Returns those of some records that can be decoded, int64 [k]; reads them."""

        def decodes(index: int) -> bool:
            fault = self._fault_of_one(index, decoded=True)
            if fault:
                self._note(index, fault)
            return fault is None

        return self._where(decodes, np.asarray(indices, np.int64))

    def look_through(self) -> None:
        """Looks at the headers of a set that is not large, and says what is left out.

        The records that are found are left out as if they had been met in training.
        """
        if len(self) > _LOOKED_THROUGH:
            return

        def reads(index: int) -> bool:
            fault = self._fault_of_one(index)
            if fault:
                self._note(index, fault)
            return fault is None

        self._where(reads, np.arange(len(self)))
        if counts := self.counts():
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
            _log.warning(
                "data.skip_broken: %s of %s left out: %s",
                f"{sum(counts.values()):,}", counted(len(self), "image"), kinds,
            )  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Returns how many records are left out so far by kind of fault, most first."""
        kinds = Counter(fault.kind for fault in list(self._broken.values()))
        # Threads find them in any order.
        return dict(sorted(kinds.items(), key=lambda one: (-one[1], one[0])))

    def chosen(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the records that are read for others, int64 [k]."""
        indices = np.array(indices, np.int64)
        if self._broken:
            for row, index in enumerate(indices):
                if int(index) in self._broken:
                    indices[row] = self._instead(int(index))
        return indices

    def leave_out(self, index: int, reason: str) -> None:
        """Notes that a record cannot be decoded, and says so once."""
        self._note(index, Fault(picture.BROKEN, reason))

    def record_name(self, index: int) -> str:
        """Returns where record `index` comes from."""
        return record_name(self._source, index)

    def describe(self) -> dict:
        """Returns the facts of the source."""
        return self._source.describe() | {"skip_broken": True}

    def _note(self, index: int, fault: Fault) -> None:
        with self._lock:
            if index in self._broken:
                return
            self._broken[index] = fault
            count = len(self._broken)
        if count <= _NAMED:
            _log.warning("left out: %s", _line(self.record_name(index), fault.reason))
        elif count & (count - 1) == 0:
            _log.warning("left out so far: %s", counted(count, "record"))

    def _where(self, holds: Callable[[int], bool], indices: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(_THREADS) as pool:
            return indices[list(pool.map(holds, indices.tolist()))]

    def _fault_of_one(self, index: int, *, decoded: bool = False) -> Fault | None:
        if index in self._broken:
            return self._broken[index]
        try:
            images, _ = self._source.fetch(np.array([index]))
            if decoded:
                picture.pixels(picture.read(images[0]))
        except (DataError, OSError) as error:
            return _fault_of_error(error)
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
            f"{_line(self.record_name(index), self._broken[index].reason)}; "
            f"data.skip_broken found {'no' if self._across else 'no other'} usable "
            f"image {'in the whole set' if self._across else 'of this identity'}: "
            "remove what is broken, or fetch the data again"
        )


class InPlace(NamedTuple):
    """Records of a skipping source by their places in a list, as `Records` sees them.

    Attributes:
        source: The source.
        rows: The records, int64 [n].
    """

    source: SkippingSource
    rows: np.ndarray

    def chosen(self, places: np.ndarray) -> np.ndarray:
        """Returns the places as they are: no record takes the place of another."""
        return places

    def leave_out(self, place: int, reason: str) -> None:
        """Notes that the record at a place cannot be decoded."""
        self.source.leave_out(int(self.rows[place]), reason)


def _line(name: str, reason: str) -> str:
    """A record and what is wrong with it; some reasons begin with the name."""
    return reason if reason.startswith(name) else f"{name}: {reason}"


def _fault_of_error(error: Exception) -> Fault:
    if isinstance(error, PictureError):
        return Fault(error.kind, str(error))
    cause = error.__cause__
    kind = cause.kind if isinstance(cause, PictureError) else UNREADABLE
    return Fault(kind, str(error))


def _fault(image: bytes) -> Fault | None:
    """Says why bytes are no picture, as far as this shows before decoding."""
    try:
        picture.read(image)
    except PictureError as error:
        return _fault_of_error(error)
    return None
