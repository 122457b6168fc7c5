"""Where the records of an MXNet RecordIO file start, and what their heads say.

Chunk = u32 magic, u32 `flag << 29 | length`, payload, zero padding to four bytes; see
`recordio` for what a payload holds.
"""

import array
import mmap
import os
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.errors import DataError

MAGIC = 0xCED7230A
CHUNK = struct.Struct("<II")
FLAG_SHIFT = 29
LENGTH_MASK = (1 << FLAG_SHIFT) - 1
# The top three bits of a chunk's second word.
WHOLE, FIRST, MIDDLE, LAST = range(4)
# Chunk head, image header and first label of the vector: 9 words of 4 bytes.
_PREFIX_WORDS = 9
_GATHER_RECORDS = 1 << 16


class Prefixes(NamedTuple):
    """What the first bytes of n records say; every field has shape [n]."""

    valid: np.ndarray  # bool: the record starts with the magic
    cflags: np.ndarray  # uint8: 0 whole record, 1 first of several parts
    lengths: np.ndarray  # uint32: bytes of the payload's first part
    flags: np.ndarray  # uint32: count of values in the label vector
    labels: np.ndarray  # float32: the label, or element 0 of the vector


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads an `.idx` file: one `key<TAB>offset` per line, in any order.

    Returns:
        keys: int64 [n], ascending.
        offsets: int64 [n], where each record starts.

    Raises:
        DataError: where it holds anything but pairs of integers, or a key twice.
    """
    try:
        with warnings.catch_warnings():
            # numpy reports text that is no number by a deprecation warning only.
            warnings.simplefilter("error", DeprecationWarning)
            numbers = np.fromfile(path, dtype=np.int64, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise DataError(
            f"{path}: not an index of lines 'key<TAB>offset'; remove it to have it "
            "rebuilt by scanning the .rec"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(numbers) == 0 or len(numbers) % 2:
        raise DataError(
            f"{path}: {len(numbers)} numbers, expected pairs 'key<TAB>offset'; remove "
            "it to have it rebuilt by scanning the .rec"
        )
    keys, offsets = numbers[0::2], numbers[1::2]
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    twice = np.flatnonzero(np.diff(keys) == 0)
    if len(twice) or offsets.min() < 0:
        problem = f"key {keys[twice[0]]} twice" if len(twice) else "a negative offset"
        raise DataError(f"{path}: holds {problem}; remove it to have it rebuilt")
    return keys, offsets


def scan(path: Path) -> np.ndarray:
    """Finds the records of a `.rec` file that has no `.idx`.

    Returns:
        int64 [n], where each record starts, in the order of the file.

    Raises:
        DataError: where the file is truncated or holds anything but records.
    """
    offsets = array.array("q")
    inside = False
    position = 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            while position + CHUNK.size <= size:
                magic, word = CHUNK.unpack_from(view, position)
                cflag, length = word >> FLAG_SHIFT, word & LENGTH_MASK
                if magic != MAGIC or inside != (cflag in (MIDDLE, LAST)):
                    raise DataError(
                        f"{path}: no RecordIO record at byte {position}, after "
                        f"{len(offsets)} records; the file is damaged or no .rec file"
                    )
                if not inside:
                    offsets.append(position)
                inside = cflag in (FIRST, MIDDLE)
                position += CHUNK.size + length + -length % 4
    if position != size or inside:
        raise DataError(
            f"{path}: truncated: {max(len(offsets) - 1, 0)} whole records, then one "
            f"that ends beyond its {size} bytes; copy it again"
        )
    return np.frombuffer(offsets, dtype=np.int64)


def gather_prefixes(words: np.ndarray, offsets: np.ndarray) -> Prefixes:
    """Reads the first 36 bytes of every record through a memory map.

    Args:
        words: uint32 [file bytes / 4], the file.
        offsets: int64 [n], where the records start; divisible by 4.
    """
    n = len(offsets)
    prefixes = Prefixes(
        valid=np.empty(n, bool),
        cflags=np.empty(n, np.uint8),
        lengths=np.empty(n, np.uint32),
        flags=np.empty(n, np.uint32),
        labels=np.empty(n, np.float32),
    )
    for start in range(0, n, _GATHER_RECORDS):
        rows = slice(start, start + _GATHER_RECORDS)
        at = offsets[rows, None] // 4 + np.arange(_PREFIX_WORDS)
        block = words[np.minimum(at, len(words) - 1)]
        prefixes.valid[rows] = block[:, 0] == MAGIC
        prefixes.cflags[rows] = block[:, 1] >> FLAG_SHIFT
        prefixes.lengths[rows] = block[:, 1] & LENGTH_MASK
        prefixes.flags[rows] = block[:, 2]
        label_words = np.where(block[:, 2] > 0, block[:, 8], block[:, 3])
        prefixes.labels[rows] = label_words.astype("<u4").view("<f4")
    return prefixes
