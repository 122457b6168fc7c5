"""A folder of folders of images as a source: root/<identity>/<image>."""

import array
import os
from collections import Counter
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.data_pipelines.stream.picture import (
    IMAGE_SUFFIXES,
    PictureError,
    has_image_suffix,
    read_file,
)
from qface_jax.data_pipelines.tools.known_sets import compare_with_known
from qface_jax.errors import DataError, printable

_NO_FILE = "folders or special files"
_BESIDE = "beside the folders of identities"
_NAMED_ENDINGS = 5


class NameTable:
    """Many names in one block of memory, without a Python object for each."""

    def __init__(self):
        self._text = bytearray()
        self._ends = array.array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self._text[self._ends[index] : self._ends[index + 1]])

    def append(self, name: bytes) -> None:
        """Adds a name at the end."""
        self._text += name
        self._ends.append(len(self._text))


class FolderSource:
    """Identities are the sub-folders in sorted order, images sorted within them."""

    name = "folder"

    def __init__(self, path: Path):
        """Lists the folder.

        Args:
            path: the root; each sub-folder with at least one file that ends like a
                picture is an identity. Hidden files and folders are left out.

        Raises:
            DataError: where there is no such folder or no image in it.
        """
        self.path = path
        self._people, self._files = NameTable(), NameTable()
        labels = array.array("i")
        beside = without_image = 0
        endings: Counter[str] = Counter()
        for person, is_folder in _entries(path):
            if not is_folder:
                beside += 1
                continue
            before = len(self._files)
            for file, is_folder in _entries(path / os.fsdecode(person)):
                if is_folder is False and has_image_suffix(file):
                    self._files.append(file)
                    continue
                ending = os.path.splitext(os.fsdecode(file))[1].lower()
                endings[ending if is_folder is False else _NO_FILE] += 1
            count = len(self._files) - before
            if count:
                labels.extend([len(self._people)] * count)
                self._people.append(person)
            else:
                without_image += 1
        others = beside + endings.total()
        # Why files and folders are left out -> how many; what is broken shows later.
        self.left_out = {
            **{ending or "without an ending": n for ending, n in endings.most_common()},
            **({_BESIDE: beside} if beside else {}),
        }
        if not len(self._files):
            raise DataError(
                f"{path}: no image: expected <identity>/<image>.jpg (or another of "
                f"{', '.join(IMAGE_SUFFIXES)}), got {without_image} folders without "
                f"images and {others} other files"
            )
        self._labels = np.frombuffer(labels, dtype=np.int32)
        self.num_classes = len(self._people)
        self.known_set, self.notes = compare_with_known(
            str(path), self.num_classes, len(self)
        )
        if without_image:
            self.notes.append(f"{without_image} folders hold no image: left out")
        if others:
            self.notes.append(f"{others} files or nested folders are left out")
        if endings:
            named = ", ".join(
                f"{count} {ending or 'without an ending'}"
                for ending, count in endings.most_common(_NAMED_ENDINGS)
            )
            self.notes.append(
                f"of these, {named} lie in folders of identities, {without_image} of "
                "which they leave without an image; read are "
                f"{', '.join(IMAGE_SUFFIXES)}"
            )

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1."""
        return self._labels

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns the files of the given records as they are, and int32 labels."""
        indices = np.asarray(indices)
        images = []
        for index in indices:
            try:
                images.append(read_file(self.record_name(index)))
            except PictureError as error:
                name = printable(self.record_name(index))
                raise DataError(f"{name}: {error}") from error
            except OSError as error:
                name = printable(self.record_name(index))
                raise DataError(f"{name}: cannot be read: {error.strerror}") from error
        return images, self._labels[indices]

    def record_name(self, index: int) -> str:
        """Returns the path of record `index`."""
        person = os.fsdecode(self._people[self._labels[index]])
        return os.path.join(self.path, person, os.fsdecode(self._files[index]))

    def describe(self) -> dict:
        """Returns the counts and what is odd about the folder."""
        return {
            "source": self.name,
            "path": str(self.path),
            "images": len(self),
            "identities": self.num_classes,
            "known_set": self.known_set,
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def _entries(folder: Path) -> list[tuple[bytes, bool | None]]:
    """Returns sorted (name, is it a folder) of what `folder` holds, none hidden.

    None: neither a folder nor a regular file, but a FIFO, a socket, a device.
    """
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            found = [
                (entry.name, entry.is_dir() or (False if entry.is_file() else None))
                for entry in entries
                if not entry.name.startswith(b".")
            ]
            return sorted(found, key=lambda named: named[0])
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed: {error.strerror}; expected a folder with one "
            "sub-folder per identity"
        ) from error


SOURCE = SourceEntry(FolderSource, detects=Path.is_dir)
