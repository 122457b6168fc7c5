"""The images of a benchmark, as files below one folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qface_jax.errors import DataError


class BenchmarkImages:
    """Encoded images by number.

    Attributes:
        name: of the set.
        folder: that the files lie below.
        files: paths within it.
        landmarks: float32 [n, 5, 2] or [n, 4, 2], px of the file; None: the files are
            aligned, or resized as a whole.
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
        self.name, self.folder, self.files = name, folder, files
        self.landmarks = landmarks
        self._facts = dict(facts or {})

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, indices: Sequence[int]) -> list[bytes]:
        """Returns the content of some files; DataError where one cannot be read."""
        images = []
        for index in indices:
            path = self.folder / self.files[index]
            try:
                images.append(path.read_bytes())
            except OSError as error:
                message = f"{path}: cannot be read: {error.strerror}"
                raise DataError(message) from error
        return images

    def describe(self) -> dict:
        """Returns name, folder, number of images and the facts."""
        facts = {"set": self.name, "path": str(self.folder), "images": len(self)}
        return facts | self._facts
