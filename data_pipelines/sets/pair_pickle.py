"""Reads the pickles in `.bin` verification sets without running what they ask for.

The pickle may use a short list of operations, and the only names it may call are those
that pickled numpy arrays need; even these are stand-ins of this module, so that nothing
but lists, tuples, numbers, bytes and plain arrays of these can come out.
"""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import DataError
from qface_jax.restricted_pickle import Function, RefusedError, RestrictedUnpickler

# What builds lists, tuples, numbers and bytes, plus the way numpy arrays
# are put together (GLOBAL, REDUCE, BUILD); no dicts, sets, objects, EXT, PERSID.
_OPERATIONS = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET "
    "LONG_BINGET NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 "
    "STRING BINSTRING SHORT_BINSTRING BINBYTES BINBYTES8 SHORT_BINBYTES BYTEARRAY8 "
    "UNICODE BINUNICODE BINUNICODE8 SHORT_BINUNICODE LIST EMPTY_LIST APPEND APPENDS "
    "TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)
_DTYPES = frozenset("b1 u1 i1 i2 i4 i8 u2 u4 u8 f4 f8".split())
_OBJECTS, _BYTES = "O", re.compile(r"S\d{1,9}")


class _Dtype:
    """Stands for `numpy.dtype`."""

    __slots__ = ("order", "type")

    def __init__(self, name: Any):
        self.type = _text(name).lstrip("<>|=")
        self.order = "<"
        if self.type in ("O", "O4", "O8"):
            self.type = _OBJECTS
        elif self.type not in _DTYPES and not _BYTES.fullmatch(self.type):
            raise RefusedError(
                f"array of dtype {self.type!r}, where only numbers and bytes are "
                "allowed"
            )

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def numpy(self) -> np.dtype:
        return np.dtype(self.type).newbyteorder(self.order)


class _Array:
    """Stands for `numpy.ndarray`."""

    __slots__ = ("value",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, data = state
        self.fill(data, dtype, shape, "F" if column_major else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: str) -> "_Array":
        if isinstance(dtype, _Dtype) and dtype.type == _OBJECTS:
            # Its entries are what the pickle built: of the same few kinds.
            if not isinstance(data, list):
                raise RefusedError("an array of objects that are no list")
            self.value = np.empty(len(data), object)
            self.value[:] = data
            return self
        if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
            raise RefusedError("an array of anything but numbers, bytes, or a list")
        array = np.frombuffer(bytes(data), dtype.numpy())
        self.value = array.reshape(shape, order=order)
        return self


def _new_array(kind: Any, shape: Any, typecode: Any) -> _Array:
    if kind is not _NDARRAY:
        raise RefusedError("an array of another class than numpy.ndarray")
    return _Array()


def _new_scalar(dtype: Any, data: Any) -> Any:
    if isinstance(dtype, _Dtype) and _BYTES.fullmatch(dtype.type):
        if not isinstance(data, bytes):
            raise RefusedError("a numpy.bytes_ that is no bytes")
        return data
    return _Array().fill(data, dtype, (1,), "C").value[0]


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array().fill(data, dtype, shape, _text(order))


def _encode(text: Any, encoding: Any) -> bytes:
    # How Python 3 writes bytes into pickles that Python 2 can read.
    if not isinstance(text, str) or _text(encoding) != "latin1":
        raise RefusedError("a conversion other than of text to bytes")
    return text.encode("latin1")


def _refuse_call(*args: Any) -> None:
    raise RefusedError("a call of numpy.ndarray itself")


_NDARRAY = Function(_refuse_call)
_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Function(lambda name, *flags: _Dtype(name)),
    ("numpy.core.multiarray", "_reconstruct"): Function(_new_array),
    ("numpy._core.multiarray", "_reconstruct"): Function(_new_array),
    ("numpy.core.multiarray", "scalar"): Function(_new_scalar),
    ("numpy._core.multiarray", "scalar"): Function(_new_scalar),
    ("numpy.core.numeric", "_frombuffer"): Function(_array_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): Function(_array_from_buffer),
    ("_codecs", "encode"): Function(_encode),
}


def _lookup(module: str, name: str) -> Any:
    if (module, name) not in _NAMES:
        raise RefusedError(f"the global {module}.{name}")
    return _NAMES[module, name]


def load_pair_pickle(path: Path) -> tuple[list[bytes], np.ndarray]:
    """Reads a `.bin` file: pickle of (images, issame).

    Args:
        path: the file; images are bytes or uint8 arrays [n] or [n, 1].

    Returns:
        images: 2p encoded images; pair i is images 2i and 2i + 1.
        issame: bool [p].

    Raises:
        DataError: where the pickle is damaged, asks for anything but lists, tuples,
            numbers, bytes and number arrays, or the counts do not fit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; expected pairs as insightface "
            "packs them: give their folder by --config.eval.path=DIR, or leave them "
            "out of --config.eval.sets"
        ) from error
    try:
        # Strings of Python 2 become bytes.
        content = RestrictedUnpickler(
            io.BytesIO(data), _lookup, encoding="bytes", operations=_OPERATIONS
        ).load()
    except RefusedError as error:
        raise DataError(
            f"{path}: refused: the pickle holds {error}; a verification set holds "
            "lists, tuples, bools, bytes and numpy arrays, nothing else"
        ) from error
    # What a damaged pickle can make the unpickler raise is not documented further.
    except Exception as error:
        raise DataError(
            f"{path}: damaged or no verification pickle: {error}; copy it again"
        ) from error
    return _checked(path, content)


def _checked(path: Path, content: Any) -> tuple[list[bytes], np.ndarray]:
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise DataError(f"{path}: expected a pair (images, issame), got another pickle")
    items, same = (
        part.value.ravel().tolist() if _is_list(part) else part for part in content
    )
    if not isinstance(items, list | tuple) or not isinstance(same, list | tuple):
        raise DataError(f"{path}: expected two lists (images, issame)")
    if len(items) % 2 or len(items) != 2 * len(same) or not items:
        raise DataError(
            f"{path}: {len(items)} images and {len(same)} pairs, expected two images "
            "per pair"
        )
    same = [_plain(value) for value in same]
    # Two people are 0 or, in some sets, -1; not one and the other.
    kinds = (0, 1) if 0 in same else (-1, 1)
    wrong = [i for i, value in enumerate(same) if value not in kinds]
    if wrong:
        raise DataError(
            f"{path}: issame[{wrong[0]}] is {str(same[wrong[0]])[:40]!r}, expected "
            f"{kinds[0]} or {kinds[1]}"
        )
    images = [_image_bytes(path, i, item) for i, item in enumerate(items)]
    return images, np.asarray(same, dtype=np.int64) == 1


def _is_list(part: Any) -> bool:
    """Whether it is an array of several values, not that of one image's bytes."""
    return isinstance(part, _Array) and hasattr(part, "value")


def _plain(value: Any) -> Any:
    if isinstance(value, _Array) and hasattr(value, "value") and value.value.size == 1:
        return value.value.ravel().tolist()[0]
    return (
        value if isinstance(value, bool | int | float | np.number | np.bool_) else None
    )


def _image_bytes(path: Path, index: int, item: Any) -> bytes:
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if _is_list(item) and item.value.dtype == np.uint8:
        return item.value.tobytes()
    kind = f"array of {item.value.dtype}" if _is_list(item) else type(item).__name__
    raise DataError(
        f"{path}: image {index} is {kind}, expected bytes or an array of uint8"
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise RefusedError(f"a {type(value).__name__} where a name belongs")
    return value
