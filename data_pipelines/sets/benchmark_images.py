"""The images of a benchmark, of which some may be unusable.

What cannot be read or aligned does not end an evaluation: published test sets have
such images, and to leave them out would raise the result. They come as black pictures
and are remembered in `failures`.
"""

import abc
import contextlib
import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError

_ASKERS = 16  # threads that ask a file system


class UsableImages(abc.ABC):
    """Encoded images by number; those that cannot be used are black.

    Attributes:
        name: of the set.
        landmarks: float32 [n, 5, 2] or [n, 4, 2], px of the picture; None: the pictures
            are aligned, or resized as a whole.
        failures: number of each image that could not be used so far, and why.
    """

    def __init__(self, name: str, landmarks: np.ndarray | None = None):
        """Takes name and landmarks; no image is read."""
        self.name, self.landmarks = name, landmarks
        self.failures: dict[int, str] = {}

    @functools.cached_property
    def transforms(self) -> np.ndarray | None:
        """From px of each picture to px of its crop, float64 [n, 2, 3]; NaN: cannot be.

        None where there are no landmarks.
        """
        if self.landmarks is None:
            return None
        # TensorFlow, which warps pictures, takes seconds to load.
        from qface_jax.data_pipelines.stream.alignment import similarity

        return similarity(self.landmarks)

    def fetch(self, indices: Sequence[int]) -> list[bytes]:
        """Returns the content of some images; thread-safe.

        Those that cannot be used are replaced by a black picture.
        """
        return [self._encoded(int(index)) for index in indices]

    @abc.abstractmethod
    def read(self, index: int) -> bytes:
        """Returns the content of an image.

        Raises:
            OSError: it cannot be read.
            DataError: likewise, or it is no picture.
        """

    @abc.abstractmethod
    def place(self, index: int) -> str:
        """Returns where an image comes from, for messages."""

    def _encoded(self, index: int) -> bytes:
        reason = self._unaligned(index)
        if reason is None:
            try:
                content = picture.read(self.read(index))
                picture.pixels(content)  # some damage shows in the decoder only
                return content.encoded
            except PictureError as error:
                reason = str(error)
            except (DataError, OSError, ValueError) as error:
                # ValueError: no file can have such a name.
                reason = f"cannot be read: {getattr(error, 'strerror', error)}"
        self.failures[index] = f"{self.place(index)}: {reason}"
        return picture.black()

    def _unaligned(self, index: int) -> str | None:
        """Says why the face cannot be placed; None: it can, or need not be."""
        if self.transforms is None or np.isfinite(self.transforms[index]).all():
            return None
        points = " ".join(f"{v:g}" for v in np.ravel(self.landmarks[index]))
        return f"landmarks: got {points}, expected distinct points of a face"


class BenchmarkImages(UsableImages):
    """Files below one folder.

    Attributes:
        folder: that the files lie below.
        files: paths within it.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        files: Sequence[str],
        *,
        landmarks: np.ndarray | None = None,
        facts: dict | None = None,
    ):
        """Takes the list; no file is read.

        Args:
            name: of the set.
            folder: that the files lie below.
            files: paths within it.
            landmarks: of each file, or None.
            facts: fit for JSON, for `describe`.
        """
        super().__init__(name, landmarks)
        self.folder, self.files = folder, files
        self._facts = dict(facts or {})

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> bytes:
        """Returns the content of a file."""
        return picture.read_file(self.folder / self.files[index])

    def place(self, index: int) -> str:
        """Returns the path of a file."""
        return str(self.folder / self.files[index])

    def describe(self) -> dict:
        """Returns name, folder, number of images and the facts."""
        facts = {"set": self.name, "path": str(self.folder), "images": len(self)}
        return facts | self._facts

    def fingerprint(self) -> str:
        """Returns a digest of folder, list and landmarks; of pictures: `stamps`."""
        digest = hashlib.sha256(str(self.folder.absolute()).encode())
        digest.update("\0".join(self.files).encode("utf-8", "surrogateescape"))
        if self.landmarks is not None:
            digest.update(np.ascontiguousarray(self.landmarks).tobytes())
        return digest.hexdigest()

    def stamps(self, rows: Sequence[int]) -> np.ndarray:
        """Returns size and time of modification, ns, of some files; thread-safe.

        By them a picture that was replaced is told from the one before, as `rsync`
        does: nothing is read, and features of 469,375 files can be compared each time.

        Args:
            rows: numbers of the images.

        Returns:
            int64 [k, 2]; -1 of a file that is not there.
        """
        rows = np.asarray(rows, np.int64)
        stamps, folder = np.full((len(rows), 2), -1, np.int64), str(self.folder)

        def take(places: np.ndarray) -> None:
            for place in places:
                # No file can have such a name, or it is not there.
                with contextlib.suppress(OSError, ValueError):
                    status = os.stat(os.path.join(folder, self.files[rows[place]]))
                    stamps[place] = status.st_size, status.st_mtime_ns

        # Over a network each answer is waited for.
        with ThreadPoolExecutor(_ASKERS) as pool:
            list(pool.map(take, np.array_split(np.arange(len(rows)), _ASKERS)))
        return stamps
