"""PyTorch's `.pt`, `.pth` and `.ckpt` files, read without PyTorch.

Two formats: a zip archive (since PyTorch 1.6) with the pickle and each storage as a
file, and the older stream of pickles with the storages behind them. Storages come to
the CPU wherever they were saved from, and are read when a tensor is asked for.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from qface_jax.errors import DataError
from qface_jax.restricted_pickle import RefusedError
from qface_jax.weights.torch.stored_tensor import Storage, StoredType
from qface_jax.weights.torch.torch_pickle import TorchUnpickler

# The first pickle of the older format: PyTorch's number for its files.
_MAGIC = 0x1950A86A20F9469CFC6C
# How many times as large as in the file a member of the archive may become, and bytes
# that are always allowed.
_MOST_EXPANDED, _SPARE = 8, 1 << 20
_MOST_DIRECTORY = 16 << 20  # bytes; of some 100,000 members
_TAIL = 1 << 17  # bytes at the end, where the directory's size stands
# What a damaged or foreign pickle may raise besides our own errors.
_BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    TypeError, ValueError, struct.error, zipfile.BadZipFile, RecursionError,
    OverflowError, NotImplementedError, RefusedError, MemoryError, zlib.error,
)  # fmt: skip


def read(path: Path) -> Any:
    """Returns what `torch.save` wrote: nested containers with `StoredTensor` leaves.

    Args:
        path: The file; it must stay where it is while its tensors are read.

    Raises:
        DataError: if it is no such file, is damaged, or asks for anything that is not
            a tensor or a container, naming it.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        with path.open("rb") as file:
            if _first_pickle(file) == _MAGIC:
                return _read_stream(path, file)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except _BROKEN as error:
        raise DataError(
            f"{path}: cannot be read as a PyTorch file ({type(error).__name__}: "
            f"{error}); it is damaged: copy it again"
        ) from error
    raise DataError(
        f"{path}: is no file of torch.save (neither its zip archive nor the older "
        "format); give a .pt, .pth, .ckpt, .safetensors or .onnx file"
    )


def _first_pickle(file: BinaryIO) -> Any:
    """The number at the beginning of the older format, or None."""
    try:
        return _plain(file)
    except (DataError, *_BROKEN):
        return None


def _plain(file: BinaryIO) -> Any:
    """One pickle that holds no storages."""

    def none(*unused):
        raise DataError("a storage where there must be none; the file is damaged")

    return TorchUnpickler(file, none).load()


def _read_zip(path: Path) -> Any:
    _refuse_many_members(path)
    # It stays open for the storages, and closes when nothing refers to it.
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise DataError("a zip archive, but not one of torch.save: no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in names:
        raise DataError(
            "it is a TorchScript program; where it was made, run "
            "torch.save(module.state_dict(), FILE) and import that file"
        )
    order = f"{root}byteorder"
    if order in names and _unpacked(archive, order, 16) != b"little":
        raise DataError("it was written on a big-endian machine; save it on another")
    content = _unpacked(archive, pickles[0])
    known = frozenset(names)

    def storage(stored: StoredType, key: str, size: int, view: Any) -> Storage:
        name = f"{root}data/{key}"
        if name not in known:
            raise DataError(f"storage {key} is missing; the file is cut off")
        return Storage(stored, size, _zip_reader(archive, name, size * stored.itemsize))

    return TorchUnpickler(io.BytesIO(content), storage).load()


def _refuse_many_members(path: Path) -> None:
    """Looks at the size of the archive's directory before it is read.

    It stands in the record at the end (APPNOTE 4.3.16), or in the one for large files
    before it (4.3.14).
    """
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _TAIL), io.SEEK_END)
        tail = file.read()
    sizes = [0]
    for signature, form, place in ((b"PK\5\6", "<L", 12), (b"PK\6\6", "<Q", 40)):
        at = tail.rfind(signature)
        if at >= 0 and at + place + struct.calcsize(form) <= len(tail):
            sizes += struct.unpack_from(form, tail, at + place)
    if max(size for size in sizes if size != 0xFFFFFFFF) > _MOST_DIRECTORY:
        raise DataError(
            f"the archive's directory has {max(sizes):,} bytes, expected at most "
            f"{_MOST_DIRECTORY:,}; the file is damaged: copy it again"
        )


def _zip_reader(archive: zipfile.ZipFile, name: str, count: int) -> Callable[[], bytes]:
    def read_bytes():
        try:
            return _unpacked(archive, name, count)
        except _BROKEN as error:
            raise DataError(
                f"{name} cannot be read ({error}); the file is damaged: copy it again"
            ) from error

    return read_bytes


def _unpacked(archive: zipfile.ZipFile, name: str, count: int = -1) -> bytes:
    """Returns a member, or as many of its bytes as are wanted.

    PyTorch does not compress, so that what becomes much larger is none of its files.
    """
    member = archive.getinfo(name)
    if member.file_size > _MOST_EXPANDED * member.compress_size + _SPARE:
        raise DataError(
            f"{name}: {member.compress_size:,} bytes become {member.file_size:,}, "
            f"expected at most {_MOST_EXPANDED} times as many (PyTorch does not "
            "compress)"
        )
    with archive.open(member) as file:
        # Never more than it declares, whatever its data would become.
        return file.read(
            member.file_size if count < 0 else min(count, member.file_size)
        )


def _read_stream(path: Path, file: BinaryIO) -> Any:
    """After the magic number: protocol, machine, object, storages' keys, storages."""
    _plain(file)
    machine = _plain(file)
    if isinstance(machine, dict) and not machine.get("little_endian", True):
        raise DataError("it was written on a big-endian machine; save it on another")
    types: dict[str, StoredType] = {}
    # First byte and count of values; known when the pickle has been read.
    places: dict[str, tuple[int, int]] = {}

    def storage(stored: StoredType, key: str, size: int, view: Any) -> Storage:
        types[key] = stored
        begin, count = 0, size
        if view is not None:
            _, begin, count = view
            if not all(type(n) is int and 0 <= n <= size for n in (begin, count)):
                raise DataError(
                    f"a view of storage {key} lies outside of it; the file is damaged"
                )

        def read_bytes():
            if key not in places:
                raise DataError(f"storage {key} is missing; the file is cut off")
            place, held = places[key]
            with path.open("rb") as again:
                again.seek(place + begin * stored.itemsize)
                return again.read(min(count, max(held - begin, 0)) * stored.itemsize)

        return Storage(stored, count, read_bytes)

    content = TorchUnpickler(file, storage).load()
    end = path.stat().st_size
    for key in _plain(file):
        (count,) = struct.unpack("<q", file.read(8))
        places[key] = (file.tell(), count)
        size = count * types[key].itemsize
        if count < 0 or file.tell() + size > end:
            raise DataError(
                f"storage {key} has {count:,} values, the file ends before; it is cut "
                "off: copy it again"
            )
        file.seek(size, io.SEEK_CUR)
    return content
