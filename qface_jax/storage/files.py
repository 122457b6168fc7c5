"""Small files of a run, read and opened again where storage fails for a moment."""

import errno
import io
import os
from pathlib import Path
from typing import BinaryIO

from qface_jax.storage.retrying import retrying


class _RetriedReader(io.RawIOBase):
    """Reads a file at a position; opens it again there where storage fails."""

    def __init__(self, path: Path):
        """Opens the file."""
        self._path, self._position = path, 0
        self._descriptor: int | None = None
        retrying(self._open, path)

    def _open(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def _read(self, size: int) -> bytes:
        if self._descriptor is None:
            self._open()
        return os.pread(self._descriptor, size, self._position)

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """Always True."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Fills a buffer as far as the file goes; returns how far."""
        content = retrying(
            lambda: self._read(len(buffer)), self._path, before_again=self._open
        )
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position; returns it."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += retrying(self._size, self._path, before_again=self._open)
        if offset < 0:
            raise OSError(errno.EINVAL, f"position: got {offset}, must be >= 0")
        self._position = offset
        return offset

    def _size(self) -> int:
        if self._descriptor is None:
            self._open()
        return os.fstat(self._descriptor).st_size

    def tell(self) -> int:
        """Returns the position."""
        return self._position

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        super().close()


def open_to_read(path: Path) -> BinaryIO:
    """Returns a file, open for reading bytes.

    Raises:
        OSError: it cannot be read; says how often that was tried.
    """
    return io.BufferedReader(_RetriedReader(path))


def read_bytes(path: Path) -> bytes:
    """Returns what a file holds; raises as `open_to_read`."""
    with open_to_read(path) as file:
        return file.read()


def open_to_append(path: Path) -> BinaryIO:
    """Returns a file, open for bytes at its end, unbuffered; writing is not retried."""
    return retrying(lambda: path.open("ab", buffering=0), path)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, unless they are there."""
    retrying(lambda: path.mkdir(parents=True, exist_ok=True), path)
