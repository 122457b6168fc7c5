"""Random access to MXNet RecordIO image files (`train.rec`, `train.idx`).

The file is a stream of little-endian chunks: u32 magic, u32 `flag << 29 | length`,
payload, zero padding to four bytes. A payload that holds the magic at an offset
divisible by four is cut there into parts (flags 1, 2, 3) and the magic left out; it
comes back when the parts are joined. The joined payload is a 24-byte header
(u32 flag, f32 label, u64 id, u64 id2), `flag` float32 labels, and the encoded image.

Only numpy arrays of offsets, lengths and labels are kept: 16 bytes per record.

References:
    dmlc-core `src/recordio.cc`; MXNet `python/mxnet/recordio.py`.
"""

import array
import mmap
import os
import struct
import warnings
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.errors import DataError
from qface_jax.storage.retrying import retrying

MAGIC = 0xCED7230A
CHUNK = struct.Struct("<II")
FLAG_SHIFT = 29
LENGTH_MASK = (1 << FLAG_SHIFT) - 1
# The top three bits of a chunk's second word.
WHOLE, FIRST, MIDDLE, LAST = range(4)
# Chunk head, image header and first label of the vector: 9 words of 4 bytes.
_PREFIX_WORDS = 9
_GATHER_RECORDS = 1 << 16
HEADER_BYTES = 24
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")


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


class RecordFile:
    """The image records of one `.rec` file, in the order of their keys.

    Records without an image (insightface's header and identity records) are left
    out. Reading is thread-safe.

    Attributes:
        keys: `range` or int64 [n]; key of each image record. Without an `.idx` it is
            the record's position in the file.
        labels: float32 [n]; the label as stored, or element 0 of a label vector.
        empty_records: count of records that were left out, the header included.
        header: the two numbers of insightface's record 0, or None. They are
            float32, so they are wrong above 2**24.
        rebuilt_index: True where there was no `.idx` and the file was scanned.
        unlisted_bytes: bytes after the last record the `.idx` knows of.
    """

    def __init__(self, path: Path, index_path: Path | None):
        """Opens and checks the file.

        Args:
            path: the `.rec` file.
            index_path: the `.idx` file; None scans the `.rec` instead.

        Raises:
            DataError: where the file is truncated, is no RecordIO file, or the
                index does not fit it.
        """
        self.path = path
        try:
            self._descriptor = retrying(lambda: os.open(path, os.O_RDONLY), path)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened: {error.strerror}") from error
        # One descriptor for all threads: pread has no file position to share, and
        # unlike a page fault of a memory map it does not hold the interpreter lock.
        weakref.finalize(self, os.close, self._descriptor)
        self.bytes = os.fstat(self._descriptor).st_size
        if self.bytes < CHUNK.size + HEADER_BYTES:
            raise DataError(f"{path}: {self.bytes} bytes are too few for one record")
        self.rebuilt_index = index_path is None
        if index_path is None:
            offsets = scan(path)
            keys: range | np.ndarray = range(len(offsets))
        else:
            keys, offsets = read_index(index_path)
        self._index_path = index_path
        self._check_offsets(keys, offsets)
        words = np.memmap(path, dtype="<u4", mode="r", shape=(self.bytes // 4,))
        prefixes = gather_prefixes(words, offsets)
        self._check_heads(keys, offsets, prefixes)
        self._check_ends(keys, offsets, prefixes)
        self._keep_images(keys, offsets, prefixes)

    def __len__(self) -> int:
        """Returns the count of image records."""
        return len(self.labels)

    def read(self, index: int) -> bytes:
        """Returns the encoded image of record `index` (0 .. n-1).

        Raises:
            DataError: where the file changed under the reader or a part is missing.
        """
        payload = self._payload(int(self._offsets[index]), int(self._lengths[index]))
        (flag,) = struct.unpack_from("<I", payload)
        return payload[HEADER_BYTES + 4 * flag :]

    def _bytes(self, count: int, offset: int) -> bytes:
        """Reads from the file, and opens it again where its handle has become stale."""
        try:
            return retrying(
                lambda: os.pread(self._descriptor, count, offset),
                self.path,
                before_again=self._open_again,
            )
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read at byte {offset}: {error.strerror}"
            ) from error

    def _open_again(self) -> None:
        fresh = os.open(self.path, os.O_RDONLY)
        try:
            # Other threads read by the same number meanwhile.
            os.dup2(fresh, self._descriptor, inheritable=False)
        finally:
            os.close(fresh)

    def _payload(self, offset: int, length: int) -> bytes:
        buffer = self._bytes(CHUNK.size + length, offset)
        cflag = self._check_chunk(buffer, offset, length)
        parts = [buffer[CHUNK.size :]]
        while cflag in (FIRST, MIDDLE):
            offset += CHUNK.size + length + -length % 4
            head = self._bytes(CHUNK.size, offset)
            length = CHUNK.unpack(head)[1] & LENGTH_MASK if len(head) == 8 else 0
            buffer = self._bytes(CHUNK.size + length, offset)
            cflag = self._check_chunk(buffer, offset, length)
            if cflag not in (MIDDLE, LAST):
                raise DataError(
                    f"{self.path}: the part at byte {offset} has flag {cflag}, where "
                    "the rest of a split record (2 or 3) should stand"
                )
            parts.append(buffer[CHUNK.size :])
        return _MAGIC_BYTES.join(parts)

    def _check_chunk(self, buffer: bytes, offset: int, length: int) -> int:
        if len(buffer) != CHUNK.size + length or len(buffer) < CHUNK.size:
            raise DataError(f"{self.path}: truncated at byte {offset + len(buffer)}")
        magic, word = CHUNK.unpack_from(buffer)
        if magic != MAGIC or word & LENGTH_MASK != length:
            raise DataError(f"{self.path}: no record at byte {offset}")
        return word >> FLAG_SHIFT

    def _index_error(self, problem: str) -> DataError:
        source = self._index_path or self.path
        return DataError(
            f"{source}: does not fit {self.path.name}: {problem}; copy both files "
            "again, or remove the .idx to have it rebuilt by scanning the .rec"
        )

    def _check_offsets(self, keys, offsets: np.ndarray) -> None:
        beyond = np.flatnonzero(offsets + CHUNK.size + HEADER_BYTES > self.bytes)
        if len(beyond):
            first = beyond[0]
            raise DataError(
                f"{self.path}: truncated, or not the file of its .idx: {len(beyond)} "
                f"of {len(offsets)} records lie beyond its {self.bytes} bytes, the "
                f"first with key {keys[first]} at byte {offsets[first]}; copy it again"
            )

    def _check_heads(self, keys, offsets: np.ndarray, prefixes: Prefixes) -> None:
        bad = np.flatnonzero((offsets % 4 != 0) | ~prefixes.valid)
        if len(bad):
            raise self._index_error(
                f"no record starts at byte {offsets[bad[0]]} (key {keys[bad[0]]}, "
                f"{len(bad)} of {len(offsets)} are wrong)"
            )
        bad = np.flatnonzero(prefixes.cflags > FIRST)
        if len(bad):
            raise self._index_error(f"key {keys[bad[0]]} points into a split record")

    def _check_ends(self, keys, offsets: np.ndarray, prefixes: Prefixes) -> None:
        ends = offsets + CHUNK.size + (prefixes.lengths.astype(np.int64) + 3) // 4 * 4
        truncated = np.flatnonzero(ends > self.bytes)
        if len(truncated):
            raise DataError(
                f"{self.path}: truncated: the record with key {keys[truncated[0]]} "
                f"needs {ends[truncated[0]]} bytes, the file has {self.bytes}; copy "
                "it again"
            )
        order = np.argsort(offsets, kind="stable")
        overlap = np.flatnonzero(ends[order][:-1] > offsets[order][1:])
        if len(overlap):
            raise self._index_error(
                f"the record with key {keys[order[overlap[0]]]} runs into the next one"
            )
        last = order[-1]
        end = self._record_end(int(offsets[last]), int(prefixes.lengths[last]))
        self.unlisted_bytes = self.bytes - end

    def _record_end(self, offset: int, length: int) -> int:
        """Walks the parts of the record at `offset` and returns where they end."""
        while True:
            cflag = self._check_chunk(
                self._bytes(CHUNK.size + length, offset), offset, length
            )
            offset += CHUNK.size + length + -length % 4
            if cflag in (WHOLE, LAST):
                return offset
            head = self._bytes(CHUNK.size, offset)
            if len(head) < CHUNK.size:
                raise DataError(f"{self.path}: truncated within a split record")
            length = CHUNK.unpack(head)[1] & LENGTH_MASK

    def _keep_images(self, keys, offsets: np.ndarray, prefixes: Prefixes) -> None:
        flags, labels = prefixes.flags.copy(), prefixes.labels.copy()
        short = (prefixes.cflags == FIRST) & (prefixes.lengths < HEADER_BYTES + 4)
        for i in np.flatnonzero(short):  # the image header itself was split
            payload = self._payload(int(offsets[i]), int(prefixes.lengths[i]))
            flags[i], labels[i] = struct.unpack_from("<If", payload)
            if flags[i]:
                (labels[i],) = struct.unpack_from("<f", payload, HEADER_BYTES)
        body = prefixes.lengths.astype(np.int64) - HEADER_BYTES - 4 * flags.astype("i8")
        broken = np.flatnonzero((body < 0) & (prefixes.cflags == WHOLE))
        if len(broken):
            raise DataError(
                f"{self.path}: the record with key {keys[broken[0]]} is too short for "
                f"its image header ({len(broken)} of {len(keys)} records)"
            )
        is_image = (body > 0) | (prefixes.cflags == FIRST)
        self.header = None
        key_zero = np.flatnonzero(np.asarray(keys) == 0)
        if not self.rebuilt_index and len(key_zero):
            zero = key_zero[0]
            if flags[zero] == 2 and not is_image[zero]:
                payload = self._payload(int(offsets[zero]), HEADER_BYTES + 8)
                self.header = struct.unpack_from("<2f", payload, HEADER_BYTES)
        self.empty_records = int(len(is_image) - is_image.sum())
        if not is_image.any():
            raise DataError(f"{self.path}: none of its {len(keys)} records is an image")
        kept = np.asarray(keys)[is_image]
        self.keys = _compact(kept)
        self.labels = labels[is_image]
        self._offsets = offsets[is_image]
        self._lengths = prefixes.lengths[is_image]


def _compact(keys: np.ndarray) -> range | np.ndarray:
    first, last = int(keys[0]), int(keys[-1])
    # Sorted and distinct, so this length leaves no room for gaps.
    if last - first + 1 == len(keys):
        return range(first, last + 1)
    return keys
