"""Names and identities out of MATLAB files (version 5), whole or refused.

Benchmarks keep their labels in such files. `scipy.io.loadmat` ends the process on some
damaged ones, so the few kinds of values that are needed are read here.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import DataError, counted

_HEADER = 128  # bytes; the last two say the order of bytes
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
    13: "u8",
}  # fmt: skip
_TEXTS = {1: "latin-1", 2: "utf-8", 16: "utf-8"}
_WIDE_TEXTS = (4, 17)  # two bytes each
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices
_LARGEST = 1 << 28  # bytes of one variable; the lists of faces have some millions
_DEEPEST = 16  # cells within cells


class _DamagedError(Exception):
    """What is wrong with the bytes."""


class LabelledNames(NamedTuple):
    """Names of image files and the identity of each.

    Attributes:
        names: without a folder, each once.
        ids: identities, int64 [n], at least 0.
    """

    names: list[str]
    ids: np.ndarray


class Nested(NamedTuple):
    """A value that may hold others.

    Attributes:
        shape: of the array.
        children: of a cell array its cells, of a struct its fields, element by
            element, both by column as MATLAB counts; [] of what holds no others.
        text: of an array of letters; "" of what is none.
        values: of an array of numbers; None of what is none.
    """

    shape: tuple[int, ...]
    children: list["Nested"]
    text: str = ""
    values: np.ndarray | None = None


def read_labels(path: Path, names: str, ids: str) -> LabelledNames:
    """Reads a list of image names and their identities.

    Args:
        path: of the file.
        names: variable that holds the names, a cell array of n texts.
        ids: variable that holds the identities, n numbers.

    Raises:
        DataError: the file is missing, damaged or not of this kind; the lists do not
            fit together; a name is there twice or is no plain file name.
    """
    listed = read_names(path, names)[:, 0].tolist()
    numbers = _variable(path, ids, _values)
    if numbers.dtype.kind not in "iuf" or numbers.size != len(listed):
        raise DataError(
            f"{path}: {ids} must hold a number for each of the {len(listed)} names of "
            f"{names}, got {numbers.size} values"
        )
    numbers = numbers.ravel()
    whole = np.asarray(numbers, np.float64)
    if not np.all((whole == np.rint(whole)) & (whole >= 0) & (whole < 2**53)):
        raise DataError(f"{path}: {ids} must hold whole numbers that are not negative")
    if len(set(listed)) < len(listed):
        seen: set[str] = set()
        twice = next(name for name in listed if name in seen or seen.add(name))
        raise DataError(
            f"{path}: {names} has {counted(len(listed) - len(set(listed)), 'name')} "
            f"more than once, such as {twice!r}; each image must be listed once"
        )
    return LabelledNames(listed, whole.astype(np.int64))


def read_names(path: Path, names: str, columns: int = 1) -> np.ndarray:
    """Reads a table of image names, str [n, columns].

    Args:
        path: of the file.
        names: variable that holds them, a cell array of texts.
        columns: names in a row; a single column may lie either way.

    Raises:
        DataError: as of `read_labels`.
    """
    table = _variable(path, names, _values)
    if columns == 1 and table.ndim == 2 and 1 in table.shape:
        table = table.reshape(-1, 1)
    if table.dtype.kind != "U" or table.ndim != 2 or table.shape[1] != columns:
        kind = "texts" if table.dtype.kind == "U" else "numbers"
        raise DataError(
            f"{path}: {names} must be a cell array of texts [n, {columns}], got {kind} "
            f"{list(table.shape)}"
        )
    if not len(table):
        raise DataError(f"{path}: {names} is empty; it must list at least one image")
    for name in table.ravel().tolist():
        if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
            raise DataError(
                f"{path}: {names} has {name!r}, expected the name of an image file "
                "without a folder"
            )
    return table


def read_nested(path: Path, name: str) -> Nested:
    """Reads a variable whose cells and structs hold others.

    Args:
        path: of the file.
        name: of the variable.

    Raises:
        DataError: the file is missing or damaged, or has no such variable.
    """
    return _variable(path, name, _nested)


def _variable(path: Path, name: str, value: Callable[["_Matrix"], Any]) -> Any:
    """Returns what `value` makes of one variable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    others = []
    try:
        for matrix in _matrices(content):
            if matrix.name == name:
                return value(matrix)
            others.append(matrix.name)
    except _DamagedError as error:
        raise DataError(
            f"{path}: is not a whole MATLAB file of version 5 ({len(content):,} bytes: "
            f"{error}); it must hold the variable {name}: copy it again"
        ) from error
    raise DataError(
        f"{path}: has no variable {name}, but {', '.join(others) or 'none at all'}"
    )


class _Elements:
    """Walks through the elements of some bytes."""

    def __init__(self, content: bytes | memoryview, order: str):
        self._content = memoryview(content)
        self._at = 0
        self.order = order

    @property
    def left(self) -> int:
        """Bytes that are not yet read."""
        return len(self._content) - self._at

    def next(self) -> tuple[int, memoryview]:
        """Returns the kind of the next element and what it holds."""
        tag = self._take(8)
        kind, size = struct.unpack(f"{self.order}II", tag)
        if kind >> 16:  # both in four bytes, and what it holds in the other four
            if kind >> 16 > 4:
                raise _DamagedError(f"a short element of {kind >> 16} bytes")
            return kind & 0xFFFF, tag[4 : 4 + (kind >> 16)]
        held = self._take(size)
        if kind != _COMPRESSED:
            self._at = min(self._at + -size % 8, len(self._content))
        return kind, held

    def _take(self, size: int) -> memoryview:
        if size > self.left:
            raise _DamagedError(
                f"{size:,} bytes should follow, there are {self.left:,}"
            )
        taken = self._content[self._at : self._at + size]
        self._at += size
        return taken


class _Matrix(NamedTuple):
    """A variable or a cell: its class, shape and name, and the elements it holds."""

    kind: int
    shape: Sequence[int]
    name: str
    elements: _Elements

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def _matrices(content: bytes) -> Iterator[_Matrix]:
    """Yields the variables of a file."""
    order = _ORDERS.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise _DamagedError("it does not begin as one")
    elements = _Elements(memoryview(content)[_HEADER:], order)
    while elements.left:
        kind, held = elements.next()
        if kind == _COMPRESSED:
            kind, held = _Elements(_inflated(held), order).next()
        if kind == _MATRIX:
            yield _matrix(held, order)


def _inflated(held: memoryview) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(held, _LARGEST)
    except zlib.error as error:
        raise _DamagedError(str(error)) from error
    if not inflater.eof:
        what = "is larger than 256 MiB" if inflater.unconsumed_tail else "is cut short"
        raise _DamagedError(f"a compressed variable {what}")
    return content


def _matrix(held: memoryview, order: str) -> _Matrix:
    elements = _Elements(held, order)
    (_, flags), (kind, shape), (_, name) = (elements.next() for _ in range(3))
    if len(flags) != 8 or kind != 5 or not 8 <= len(shape) <= 256 or len(shape) % 4:
        raise _DamagedError("a variable without class and shape")
    (word,) = struct.unpack(f"{order}I", flags[:4])
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if min(sizes) < 0:
        raise _DamagedError(f"a variable of shape {list(sizes)}")
    return _Matrix(word & 0xFF, sizes, bytes(name).decode("latin-1"), elements)


def _values(matrix: _Matrix) -> np.ndarray:
    """Returns the texts of a cell array, or numbers."""
    if matrix.kind == _CELL:
        if matrix.count > matrix.elements.left // 8:
            raise _DamagedError(f"{matrix.count:,} cells do not fit into {matrix.name}")
        cells = [_text(*matrix.elements.next(), matrix) for _ in range(matrix.count)]
        return np.array(cells, np.str_).reshape(matrix.shape, order="F")
    return _numbers(matrix)


def _numbers(matrix: _Matrix) -> np.ndarray:
    if matrix.kind not in _NUMERIC:
        raise _DamagedError(f"{matrix.name} holds neither numbers nor cells")
    kind, held = matrix.elements.next()
    stored = _NUMBERS.get(kind)
    if stored is None or len(held) != matrix.count * np.dtype(stored).itemsize:
        raise _DamagedError(f"{matrix.name} does not hold {matrix.count:,} numbers")
    numbers = np.frombuffer(held, np.dtype(stored).newbyteorder(matrix.elements.order))
    return numbers.astype(stored).reshape(matrix.shape, order="F")


def _nested(matrix: _Matrix, depth: int = 0) -> Nested:
    """Returns a value with all that it holds."""
    shape = tuple(matrix.shape)
    if depth > _DEEPEST:
        raise _DamagedError(f"more than {_DEEPEST} cells lie within each other")
    if matrix.kind == _CHAR:
        return Nested(shape, [], text=_letters(matrix, matrix.name))
    if matrix.kind not in (_CELL, _STRUCT):
        return Nested(shape, [], values=_numbers(matrix))
    count, elements = matrix.count, matrix.elements
    if matrix.kind == _STRUCT:
        _, length = elements.next()
        _, names = elements.next()
        size = int.from_bytes(length, "little" if elements.order == "<" else "big")
        if not size or len(names) % size:
            raise _DamagedError(f"{matrix.name} has fields without names")
        count *= len(names) // size
    if count > elements.left // 8:
        raise _DamagedError(f"{count:,} values do not fit into {matrix.name}")
    children = []
    for _ in range(count):
        kind, held = elements.next()
        if kind != _MATRIX:
            raise _DamagedError(f"a value in {matrix.name} is of kind {kind}")
        if len(held):
            children.append(_nested(_matrix(held, elements.order), depth + 1))
        else:  # MATLAB writes an empty array without even its class
            children.append(Nested((0, 0), []))
    return Nested(shape, children)


def _text(kind: int, held: memoryview, of: _Matrix) -> str:
    """Returns the text in a cell: one row of letters."""
    if kind != _MATRIX:
        raise _DamagedError(f"a cell of {of.name} is of kind {kind}")
    if not len(held):
        return ""
    return _letters(_matrix(held, of.elements.order), of.name)


def _letters(matrix: _Matrix, name: str) -> str:
    """Returns one row of letters; `name` is of what holds them."""
    if matrix.kind != _CHAR or (matrix.count and matrix.shape[0] != 1):
        raise _DamagedError(f"a cell of {name} is no line of text")
    if not matrix.count:
        return ""
    kind, held = matrix.elements.next()
    coding = _TEXTS.get(kind)
    if kind in _WIDE_TEXTS:
        coding = "utf-16-le" if matrix.elements.order == "<" else "utf-16-be"
    try:
        text = bytes(held).decode(coding or "")
    except (LookupError, UnicodeDecodeError) as error:
        raise _DamagedError(f"a cell of {name} holds no text: {error}") from error
    if len(text) != matrix.count:
        raise _DamagedError(f"a cell of {name} does not hold {matrix.count} letters")
    return text
