"""An MXNet RecordIO set as a source: labels checked, counts taken from the data."""

import re
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sources.recordio import RecordFile
from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.data_pipelines.tools.known_sets import compare_with_known
from qface_jax.errors import DataError

# Above it float32 no longer tells neighbouring integers apart.
_FLOAT32_INTEGERS = 1 << 24
_LINE = 1000  # characters of the property file that are looked at


class MxnetSource:
    """The images of `train.rec`, whichever tool wrote it."""

    name = "mxnet"

    def __init__(self, path: Path):
        """Opens the file and checks every label.

        Args:
            path: the `.rec` file, or the folder that holds `train.rec`.

        Raises:
            DataError: where files are missing, damaged, or labels impossible.
        """
        self.path = find_record_file(path)
        index_path = self.path.with_suffix(".idx")
        self._records = RecordFile(
            self.path, index_path if index_path.exists() else None
        )
        self._labels = self._checked_labels()
        self.num_classes = int(self._labels.max()) + 1
        self.known_set, self.notes = compare_with_known(
            str(self.path), self.num_classes, len(self)
        )
        self.notes += self._counts_check()

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1."""
        return self._labels

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns the encoded images and int32 labels of the given records."""
        indices = np.asarray(indices)
        return [self._records.read(i) for i in indices], self._labels[indices]

    def record_name(self, index: int) -> str:
        """Returns how to find record `index` in the file, for messages."""
        word = "record" if self._records.rebuilt_index else "key"
        return f"{self.path}: {word} {self._records.keys[index]}"

    def describe(self) -> dict:
        """Returns the counts, the layout and what is odd about it."""
        records = self._records
        return {
            "source": self.name,
            "path": str(self.path),
            "bytes": records.bytes,
            "images": len(self),
            "identities": self.num_classes,
            "header_record": records.header is not None,
            "records_without_image": records.empty_records,
            "index": "rebuilt by scanning" if records.rebuilt_index else "read",
            "known_set": self.known_set,
            "notes": list(self.notes),
        }

    def _checked_labels(self) -> np.ndarray:
        stored = self._records.labels
        integral = np.isfinite(stored) & (np.floor(stored) == stored)
        self._refuse(~integral, "is no integer")
        self._refuse(stored < 0, "is negative")
        self._refuse(
            stored >= _FLOAT32_INTEGERS,
            "is not below 2**24, so float32 does not tell it from its neighbours",
        )
        labels = stored.astype(np.int32)
        self.declared = read_property(self.path.with_name("property"))
        if self.declared is not None:
            self._refuse(
                labels >= self.declared,
                f"is not below the {self.declared} identities of the property file "
                "(correct that file if the data is right)",
            )
        return labels

    def _refuse(self, wrong: np.ndarray, problem: str) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            first = rows[0]
            raise DataError(
                f"{self.record_name(first)}: label {self._records.labels[first]:g} "
                f"{problem} ({len(rows)} of {len(wrong)} labels)"
            )

    def _counts_check(self) -> list[str]:
        records = self._records
        notes = []
        if self.declared is not None and self.declared != self.num_classes:
            notes.append(
                f"the property file declares {self.declared} identities, the labels "
                f"reach {self.num_classes}"
            )
        if records.unlisted_bytes:
            notes.append(
                f"the .idx leaves out the last {records.unlisted_bytes} bytes of the "
                ".rec; remove it to have it rebuilt with every record"
            )
        if records.header is not None:
            declared_images = int(records.header[0]) - 1
            exact = declared_images < _FLOAT32_INTEGERS
            if exact and declared_images != len(self):
                notes.append(
                    f"the header record declares {declared_images} images, the .idx "
                    f"lists {len(self)}"
                )
            identity_records = records.empty_records - 1
            if identity_records != self.num_classes:
                notes.append(
                    f"there are {identity_records} identity records, the labels reach "
                    f"{self.num_classes}"
                )
        return notes


def find_record_file(path: Path) -> Path:
    """Returns the `.rec` file that `path` is or holds.

    Raises:
        DataError: where there is none, or several and none is `train.rec`.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    if (path / "train.rec").is_file():
        return path / "train.rec"
    files = sorted(path.glob("*.rec"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:5]) or "none"
        raise DataError(
            f"{path}: expected train.rec or a single .rec file, got {names}; name the "
            "file itself"
        )
    return files[0]


def read_property(path: Path) -> int | None:
    """Returns the identity count of a `property` file, None where there is no file.

    Raises:
        DataError: where its first line is not `identities,height,width`, with commas or
            blanks between.
    """
    if not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(_LINE)
    numbers = re.split(r"[,\s]+", line.strip())
    if not all(re.fullmatch(r"\d{1,9}", number, re.ASCII) for number in numbers):
        raise DataError(
            f"{path}: first line is {line[:60]!r}, expected "
            "'identities,height,width'; correct or remove the file"
        )
    return int(numbers[0])


def _detects(path: Path) -> bool:
    return path.suffix == ".rec" or (path.is_dir() and any(path.glob("*.rec")))


SOURCE = SourceEntry(MxnetSource, detects=_detects)
