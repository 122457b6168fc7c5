"""Writing files so that they are either the old ones or whole."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file aside, then renames it; makes the folder if need be.

    Args:
        path: File to write or replace.
        content: All of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
