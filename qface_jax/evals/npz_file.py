"""Arrays of an .npz file, none of which is larger than what the file holds.

The header of an array may say any size, and a member of the archive may unpack to any:
both are compared with the file before memory is taken for them.
"""

import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from qface_jax.storage.files import open_to_read

# Bytes that a file may unpack to: so many more than it has, for few small arrays, and
# so many times as many. Names of files shrink to a tenth, features not at all.
SPARE, TIMES = 2**28, 64
_MAGIC = {(1, 0): np.lib.format.read_array_header_1_0,
          (2, 0): np.lib.format.read_array_header_2_0}  # fmt: skip


def read(path: Path, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns name -> array.

    Args:
        path: The file.
        only: Names of the arrays that are read, where they are there; None: all.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file, is damaged, or says that an array is larger
            than what it holds.
    """
    arrays, most = {}, SPARE + TIMES * path.stat().st_size
    with open_to_read(path) as file:
        archive = _archive(file)
        try:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if only is None or name in only:
                    most -= member.file_size
                    if most < 0:
                        raise ValueError("it unpacks to far more than it has")
                    arrays[name] = _array(archive, member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
                RuntimeError, KeyError, SyntaxError) as error:  # fmt: skip
            reason = str(error) or "the file ends too early"
            raise ValueError(f"damaged: {reason}") from error
    return arrays


def _archive(file: object) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError(f"no .npz file: {error}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = member.filename[:80]
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _MAGIC:
            raise ValueError(f"{name}: of unknown version {version}")
        shape, _, dtype = _MAGIC[version](stream)
        if dtype.hasobject:
            raise ValueError(f"{name}: holds Python objects, which are not read")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > member.file_size:
            raise ValueError(
                f"{name}: its header says {size:,} bytes, it has at most "
                f"{member.file_size:,}"
            )
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
