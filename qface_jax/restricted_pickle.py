"""A pickle reader that calls nothing but what its caller lists.

A pickle is a program: it may name any function on the machine and call it. Here each
name is looked up by a function of the caller's, so that nothing a file names is ever
imported, and operations can be taken away besides.
"""

import pickle
import pickletools
from collections.abc import Callable, Collection
from typing import Any, BinaryIO

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
    """Reads one pickle.

    It is the Python form of the unpickler: in the C form operations cannot be taken
    away, and a memo index in the file makes it allocate a table of that size.
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
            file: At the pickle's first byte.
            lookup: (module, name) -> what the name stands for; it raises for a name
                that must not be used.
            encoding: Of the strings of Python 2; "bytes" leaves them as bytes.
            operations: Names, as in `pickletools.opcodes`, of the allowed ones.
        """
        super().__init__(file, encoding=encoding)
        self._lookup = lookup
        self.dispatch = pickle._Unpickler.dispatch | {
            ord(operation.code): _refusal(operation.name)
            for operation in pickletools.opcodes
            if operation.name not in operations
        }

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name of the pickle stands for."""
        return self._lookup(module, name)


def _refusal(name: str) -> Callable[[Any], None]:
    def refuse(unpickler: Any) -> None:
        raise RefusedError(f"the operation {name}")

    return refuse
