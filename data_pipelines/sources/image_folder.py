"""A folder of folders of images as a source: root/<identity>/<image>."""

import array
import os
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.data_pipelines.tools.known_sets import compare_with_known
from qface_jax.errors import DataError

IMAGE_SUFFIXES = (b".jpg", b".jpeg", b".png")


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
            path: the root; each sub-folder with at least one .jpg, .jpeg or .png
                image is an identity. Hidden files and folders are left out.

        Raises:
            DataError: where there is no such folder or no image in it.
        """
        self.path = path
        self._people, self._files = NameTable(), NameTable()
        labels = array.array("i")
        others = without_image = 0
        for person, is_folder in _entries(path):
            if not is_folder:
                others += 1
                continue
            before = len(self._files)
            for file, is_folder in _entries(path / os.fsdecode(person)):
                if not is_folder and file.lower().endswith(IMAGE_SUFFIXES):
                    self._files.append(file)
                else:
                    others += 1
            count = len(self._files) - before
            if count:
                labels.extend([len(self._people)] * count)
                self._people.append(person)
            else:
                without_image += 1
        if not len(self._files):
            raise DataError(
                f"{path}: no image: expected <identity>/<image>.jpg (or .jpeg, .png), "
                f"got {without_image} folders without images and {others} other files"
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
                with open(self.record_name(index), "rb") as file:
                    images.append(file.read())
            except OSError as error:
                raise DataError(
                    f"{self.record_name(index)}: cannot be read: {error.strerror}"
                ) from error
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
            "notes": list(self.notes),
        }


def _entries(folder: Path) -> list[tuple[bytes, bool]]:
    """Returns sorted (name, is it a folder) of what `folder` holds, none hidden."""
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            return sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if not entry.name.startswith(b".")
            )
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed: {error.strerror}; expected a folder with one "
            "sub-folder per identity"
        ) from error


SOURCE = SourceEntry(FolderSource, detects=Path.is_dir)
