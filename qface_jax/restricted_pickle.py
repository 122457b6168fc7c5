"""A pickle reader that calls nothing but what its caller lists.

A pickle is a program: it may name any function on the machine and call it. Here each
name is looked up by a function of the caller's, so that nothing a file names is ever
imported, and operations can be taken away besides.
"""

import io
import pickle
import pickletools
import struct
from collections.abc import Callable, Collection
from typing import Any, BinaryIO

# A state dict of 1,000 tensors takes about 50,000.
MAX_OPERATIONS = 3_000_000
_LINE = 1 << 16  # bytes of a name or a number that is written out
# Bytes that functions may return for each byte of the file, and besides; an entry of a
# container counts as some.
_COPIES, _SPARE, _ENTRY = 8, 1 << 20, 8
_ALL = frozenset(operation.name for operation in pickletools.opcodes)


class RefusedError(Exception):
    """The pickle asks for something that it may not have."""


class Function:
    """A function that a pickle may call, and may not alter."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        """Wraps a function."""
        self._call = call

    def __call__(self, *args: Any) -> Any:
        """Calls it."""
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        """Refuses."""
        raise RefusedError("an attempt to alter a function")


class RestrictedUnpickler(pickle._Unpickler):
    """Reads one pickle, within bounds that follow from the size of its file.

    It is the Python form of the unpickler: in the C form operations cannot be taken
    away, and a memo index in the file makes it allocate a table of that size. What is
    read is no longer than the file; there are at most MAX_OPERATIONS operations; and
    what called functions return, which may copy what was read before, is in all at most
    some times as large as the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        lookup: Callable[[str, str], Any],
        *,
        encoding: str,
        operations: Collection[str] = _ALL,
    ):
        """Prepares to read.

        Args:
            file: At the pickle's first byte; it can be sought in.
            lookup: (module, name) -> what the name stands for; it raises for a name
                that must not be used.
            encoding: Of the strings of Python 2; "bytes" leaves them as bytes.
            operations: Names, as in `pickletools.opcodes`, of the allowed ones.
        """
        bounded = _Bounded(file)
        super().__init__(bounded, encoding=encoding)
        self._lookup = lookup
        self._left = _COPIES * bounded.size + _SPARE
        self.dispatch = _Counted(
            pickle._Unpickler.dispatch
            | {
                pickle.BUILD[0]: _build,
                pickle.BYTEARRAY8[0]: _bytearray,
                pickle.REDUCE[0]: _reduce,
            }
            | {
                ord(operation.code): _refusal(operation.name)
                for operation in pickletools.opcodes
                if operation.name not in operations
            }
        )

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name of the pickle stands for."""
        return self._lookup(module, name)

    def note(self, made: Any) -> None:
        """Counts what a function returned.

        Raises:
            RefusedError: All that functions returned is too large for the file.
        """
        if isinstance(made, str | bytes | bytearray):
            self._left -= len(made)
        elif isinstance(made, list | tuple | set | frozenset | dict):
            self._left -= _ENTRY * len(made)
        if self._left < 0:
            raise RefusedError("copies that are many times as large as the file")


class _Bounded:
    """A file from which no more is asked for than there is."""

    def __init__(self, file: BinaryIO):
        self._file, begin = file, file.tell()
        self.size = file.seek(0, io.SEEK_END)
        file.seek(begin)

    def read(self, count: int) -> bytes:
        if count > self.size - self._file.tell():
            raise EOFError(f"{count:,} bytes are announced, and the file ends before")
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(_LINE + 1)
        if len(line) > _LINE:
            raise RefusedError(f"a line of over {_LINE:,} bytes")
        return line


class _Counted(dict):
    """Operation -> function; it counts how many are looked up."""

    def __init__(self, functions: dict[int, Callable[[Any], None]]):
        super().__init__(functions)
        self._count = 0

    def __getitem__(self, operation: int) -> Callable[[Any], None]:
        self._count += 1
        if self._count > MAX_OPERATIONS:
            raise RefusedError(f"more than {MAX_OPERATIONS:,} operations")
        return super().__getitem__(operation)


def _reduce(unpickler: Any) -> None:
    """Calls a function, and counts what it returns."""
    arguments = unpickler.stack.pop()
    made = unpickler.stack[-1](*arguments)
    unpickler.note(made)
    unpickler.stack[-1] = made


def _build(unpickler: Any) -> None:
    """Gives an object its state; attributes of containers are left out."""
    state = unpickler.stack.pop()
    restore = getattr(unpickler.stack[-1], "__setstate__", None)
    if restore is not None:
        restore(state)


def _bytearray(unpickler: Any) -> None:
    """Reads before it allocates."""
    (count,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(count)))


def _refusal(name: str) -> Callable[[Any], None]:
    def refuse(unpickler: Any) -> None:
        raise RefusedError(f"the operation {name}")

    return refuse
