"""PyTorch's pickles, read by rules that build tensors and containers, nothing else.

Each name that a pickle asks for is looked up in a table of this file. What belongs to
tensors has an entry, the book-keeping of known training frameworks becomes an inert
stand-in, and every other name is refused.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any, BinaryIO

from qface_jax.errors import DataError
from qface_jax.restricted_pickle import Function, RestrictedUnpickler
from qface_jax.weights.torch.stored_tensor import (
    TYPES,
    Storage,
    StoredTensor,
    StoredType,
)

_MOST_AXES = 32
_MOST_STAND_INS = 10_000  # classes of a file
# Modules whose objects say how a run was done and hold no weights.
_BOOK_KEEPING = (
    "argparse",
    "easydict",
    "lightning",
    "lightning_fabric",
    "ml_collections",
    "numpy",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "torch.optim",
)


class StandIn:
    """An object of a run's book-keeping: it swallows what it is given and does nothing.

    The class is made anew for each name, so that a message can say it.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        """Takes anything."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        """Takes anything."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Takes anything."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Takes anything."""

    def append(self, value: Any) -> None:
        """Takes anything."""

    def extend(self, values: Any) -> None:
        """Takes anything."""


def _rebuild_tensor(storage, offset, shape, strides, *unused):
    """The function of PyTorch's that makes a tensor of a storage; gradients aside."""
    return _tensor(storage, offset, shape, strides, None)


def _rebuild_tensor_v3(
    storage, offset, shape, strides, requires_grad, hooks, dtype, *unused
):
    """The same where the storage is bytes and the type stands beside it."""
    return _tensor(storage, offset, shape, strides, dtype)


def _tensor(storage, offset, shape, strides, dtype):
    numbers = (offset, *shape, *strides)
    sane = len(shape) == len(strides) and all(type(n) is int for n in numbers)
    sane = sane and len(shape) <= _MOST_AXES
    if not isinstance(storage, Storage) or not sane:
        raise DataError("a tensor's description makes no sense; the file is damaged")
    stored = storage.stored if dtype is None else dtype
    if not isinstance(stored, StoredType):
        raise DataError("a tensor's type makes no sense; the file is damaged")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides), stored)


def _first(tensor, *unused):
    """A parameter, or a tensor with attributes: the tensor alone."""
    return tensor


def _rebuild_from_type(function, kind, args, state):
    """A tensor's subclass: whatever it is, the tensor it was made of."""
    if function not in (_PLAIN, _WITH_TYPE, _FIRST):
        raise DataError("a tensor of a class that cannot be built; the file is damaged")
    return function(*args)


_PLAIN, _WITH_TYPE = Function(_rebuild_tensor), Function(_rebuild_tensor_v3)
_FIRST = Function(_first)
_NOTHING = Function(lambda *unused: None)
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): Function(lambda *unused: {}),
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("torch", "Size"): tuple,
    ("torch", "device"): _NOTHING,
    ("torch", "Tensor"): StandIn,
    ("torch._utils", "_rebuild_tensor"): _PLAIN,
    ("torch._utils", "_rebuild_tensor_v2"): _PLAIN,
    ("torch._utils", "_rebuild_tensor_v3"): _WITH_TYPE,
    ("torch._utils", "_rebuild_parameter"): _FIRST,
    ("torch._utils", "_rebuild_parameter_with_state"): _FIRST,
    ("torch._tensor", "_rebuild_from_type_v2"): Function(_rebuild_from_type),
    ("torch.nn.parameter", "Parameter"): StandIn,
    # How numpy's numbers carry their bytes in protocol 2.
    ("_codecs", "encode"): Function(lambda *unused: b""),
}


@functools.lru_cache(maxsize=_MOST_STAND_INS)
def _stand_in(module: str, name: str) -> type:
    return type(name, (StandIn,), {"__module__": module})


def _lookup(module: str, name: str) -> Any:
    """Returns what a name of the pickle stands for here.

    Raises:
        DataError: if it is none of what tensors and containers need.
    """
    if (module, name) in _ALLOWED:
        return _ALLOWED[module, name]
    if module in ("torch", "torch.storage") and name in TYPES:
        return StoredType(name, TYPES[name])
    if any(f"{module}.".startswith(f"{root}.") for root in _BOOK_KEEPING):
        return _stand_in(module, name)
    if module.startswith("torch.nn.modules") or module == "__main__":
        raise DataError(
            f"it holds whole Python objects ({module}.{name}), not weights alone; "
            "where it was made, run torch.save(model.state_dict(), FILE) and "
            "import that file"
        )
    raise DataError(
        f"it asks for {module}.{name}; only tensors and plain containers are read "
        "from such a file, nothing else is run. If you trust where it comes from, "
        "load it with PyTorch, run torch.save(model.state_dict(), FILE) and import "
        "that file"
    )


class TorchUnpickler(RestrictedUnpickler):
    """Reads one pickle of a PyTorch file."""

    def __init__(self, file: BinaryIO, storage: Callable[..., Storage]):
        """Prepares to read.

        Args:
            file: At the pickle's first byte.
            storage: (type, key, size, view) -> Storage, for each storage it names.
        """
        # Text of Python 2 as bytes that fit: pickles of the legacy format may be.
        super().__init__(file, _lookup, encoding="utf-8")
        self._storage = storage
        self._storages: dict[tuple, Storage] = {}
        self._names: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name of the pickle stands for."""
        self._names.add((module, name))
        if len(self._names) > _MOST_STAND_INS:
            raise DataError(
                f"it names more than {_MOST_STAND_INS:,} classes and functions; the "
                "file is damaged"
            )
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        """Returns the storage that a pickle refers to.

        Raises:
            DataError: if it refers to something else.
        """
        sane = isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"
        if not sane or not isinstance(pid[1], StoredType):
            raise DataError(
                "it refers to something other than tensors; run "
                "torch.save(model.state_dict(), FILE) and import that file"
            )
        stored, key, _, size, *view = pid[1:]
        if type(size) is not int or size < 0 or not isinstance(key, str | int):
            raise DataError("a storage's size makes no sense; the file is damaged")
        bounds = view[0] if view else None
        # One object for a storage, so that tensors that share it are known to.
        name = (stored, str(key), size, repr(bounds))
        if name not in self._storages:
            self._storages[name] = self._storage(stored, str(key), size, bounds)
        return self._storages[name]
