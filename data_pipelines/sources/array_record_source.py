"""An imported set (TensorFlow Datasets, ArrayRecord) as a source.

TensorFlow and its data sets are imported when a set is opened: that takes seconds.
"""

import bisect
import errno
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.errors import DataError
from qface_jax.storage.retrying import is_transient, retrying

LABELS_FILE = "labels.npy"
# Records are fetched one by one in random order: nothing to read ahead.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_READER_BUFFER_BYTES = 1 << 15
_SCAN_RECORDS = 1024
_WAITS_OPENING = (0.1, 0.3, 1.0)  # s, before further tries
_log = logging.getLogger(__name__)


class ArrayRecordSource:
    """The records of one split, read by position; thread-safe."""

    name = "array_record"

    def __init__(self, path: Path):
        """Opens a data set folder and checks that its files are complete.

        Args:
            path: the folder with `dataset_info.json`.

        Raises:
            DataError: where it is no ArrayRecord data set, files are missing or
                truncated, or labels are out of range.
        """
        self.path = path
        info, split = _open_info(path)
        self._files = [Path(file) for file in split.filepaths]
        self._ends = np.cumsum(np.asarray(split.shard_lengths, np.int64))
        self._readers = self._open_readers()
        self._labels = self._load_labels()
        self.num_classes = int(self._labels.max()) + 1
        declared = info.features["label"].num_classes
        if self._labels.min() < 0 or self.num_classes > declared:
            raise DataError(
                f"{path}: labels reach from {self._labels.min()} to "
                f"{self._labels.max()}, features.json allows 0 to {declared - 1}"
            )
        self.notes = []
        if declared != self.num_classes:
            self.notes.append(
                f"features.json declares {declared} identities, the labels reach "
                f"{self.num_classes}"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def labels(self) -> np.ndarray:
        """Returns int32 [n], memory-mapped, 0 .. num_classes-1."""
        return self._labels

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns the encoded images and int32 labels of the given records."""
        indices = np.asarray(indices)
        images: list[bytes] = [b""] * len(indices)
        shards = np.searchsorted(self._ends, indices, side="right")
        for shard in np.unique(shards):
            rows = np.flatnonzero(shards == shard)
            for row, example in zip(
                rows, self._read(int(shard), indices[rows]), strict=True
            ):
                images[row] = example.features.feature["image"].bytes_list.value[0]
        return images, self._labels[indices]

    def record_name(self, index: int) -> str:
        """Returns file and position of record `index`."""
        shard = bisect.bisect_right(self._ends, index)
        return f"{self._files[shard]}: record {index - self._start(shard)}"

    def describe(self) -> dict:
        """Returns the counts and what is odd about the set."""
        return {
            "source": self.name,
            "path": str(self.path),
            "bytes": sum(file.stat().st_size for file in self._files),
            "shards": len(self._files),
            "images": len(self),
            "identities": self.num_classes,
            "notes": list(self.notes),
        }

    def _start(self, shard: int) -> int:
        return int(self._ends[shard - 1]) if shard else 0

    def _open_readers(self) -> list[Any]:
        missing = [file.name for file in self._files if not file.is_file()]
        if missing:
            raise DataError(
                f"{self.path}: {len(missing)} of {len(self._files)} files are missing, "
                f"the first is {missing[0]}"
            )
        return [self._open_reader(shard) for shard in range(len(self._files))]

    def _open_reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        def opened() -> Any:
            reader = ArrayRecordReader(
                str(file),
                _READER_OPTIONS,
                file_reader_buffer_size=_READER_BUFFER_BYTES,
            )
            if reader.num_records() != expected:
                # A damaged file opens as an empty one, and so does one whose storage
                # fails for a moment: nothing tells them apart but another try.
                raise OSError(errno.EIO, f"{reader.num_records()} records")
            return reader

        file = self._files[shard]
        expected = int(self._ends[shard]) - self._start(shard)
        try:
            return retrying(opened, file, waits=_WAITS_OPENING)
        except OSError as error:
            raise DataError(
                f"{file}: damaged: {error.strerror}, expected {expected}; copy or "
                "import it again"
            ) from error

    def _read(self, shard: int, indices: np.ndarray) -> list[Any]:
        """Returns the examples (tf.train.Example) of some records of a shard."""
        import tensorflow as tf

        places = (indices - self._start(shard)).tolist()

        try:
            records = self._records(shard, places)
        except RuntimeError as error:
            raise DataError(f"{self._files[shard]}: damaged: {error}") from error
        except OSError as error:
            raise DataError(
                f"{self._files[shard]}: cannot be read: {error.strerror}"
            ) from error
        return [tf.train.Example.FromString(record) for record in records]

    def _records(self, shard: int, places: list[int]) -> list[bytes]:
        """Reads together, or where storage fails one by one until each was read."""

        def open_again() -> None:
            # One that failed stays so.
            self._readers[shard] = self._open_reader(shard)

        try:
            return self._readers[shard].read(places)
        except RuntimeError as error:
            if not is_transient(error):
                raise
            open_again()
        return [
            retrying(
                functools.partial(self._read_one, shard, place),
                self._files[shard],
                before_again=open_again,
            )
            for place in places
        ]

    def _read_one(self, shard: int, place: int) -> bytes:
        return self._readers[shard].read([place])[0]

    def _load_labels(self) -> np.ndarray:
        file = self.path / LABELS_FILE
        if not file.is_file():
            _log.warning("%s: no %s, reading every record", self.path, LABELS_FILE)
            return self._scan_labels()
        try:
            labels = retrying(
                lambda: np.load(file, mmap_mode="r", allow_pickle=False), file
            )
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read: {error}") from error
        if labels.shape == (len(self),) and labels.dtype != np.int32:
            labels = _whole_numbers(labels)
        if labels.shape != (len(self),) or labels.dtype != np.int32:
            raise DataError(
                f"{file}: got {labels.dtype} {labels.shape}, expected int32 "
                f"({len(self)},); remove it to have the labels read from the records"
            )
        return labels

    def _scan_labels(self) -> np.ndarray:
        labels = np.empty(len(self), np.int64)
        for shard, end in enumerate(self._ends):
            for start in range(self._start(shard), int(end), _SCAN_RECORDS):
                rows = np.arange(start, min(start + _SCAN_RECORDS, int(end)))
                labels[rows] = [
                    example.features.feature["label"].int64_list.value[0]
                    for example in self._read(shard, rows)
                ]
        return labels.astype(np.int32)


def _whole_numbers(labels: np.ndarray) -> np.ndarray:
    """Returns numbers of another type as int32, or as they are if that alters them."""
    if labels.dtype.kind not in "iuf":
        return labels
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32)
    return whole if np.array_equal(whole, labels) else labels


def _open_info(path: Path) -> tuple[Any, Any]:
    """Returns DatasetInfo and SplitInfo of a set."""
    import tensorflow_datasets as tfds

    if not (path / "dataset_info.json").is_file():
        raise DataError(
            f"{path}: no dataset_info.json: expected a set made by `qface data import`"
        )
    info = tfds.builder_from_directory(path).info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise DataError(f"{path}: files are {info.file_format}, expected array_record")
    features = dict(info.features.items())
    if not isinstance(features.get("label"), tfds.features.ClassLabel) or not (
        isinstance(features.get("image"), tfds.features.Image)
    ):
        raise DataError(
            f"{path}: features are {sorted(features)}, expected image and label"
        )
    names = list(info.splits)
    if "train" not in names and len(names) != 1:
        raise DataError(f"{path}: splits are {names}, expected train or a single one")
    return info, info.splits["train" if "train" in names else names[0]]


def _detects(path: Path) -> bool:
    return (path / "dataset_info.json").is_file()


SOURCE = SourceEntry(ArrayRecordSource, detects=_detects)
