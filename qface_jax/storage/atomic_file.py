"""Writing files and folders so that they are either the old ones or complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from qface_jax.storage.files import make_folder
from qface_jax.storage.retrying import retrying


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` at the end.

    Where the body raises, what it wrote is removed and `path` stays as it was. The
    folder of `path` is made if need be.

    Args:
        path: File to write or replace, or folder to make; an empty one may be there.
    """
    make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        if aside.is_file():
            with aside.open("rb") as file:
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file aside, then renames it; makes the folder if need be.

    Tries again where storage fails for a moment.

    Args:
        path: File to write or replace.
        content: All of it.
    """

    def write() -> None:
        with replacing(path) as aside:
            aside.write_bytes(content)

    retrying(write, path)
