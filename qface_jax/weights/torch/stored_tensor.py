"""Tensors of a PyTorch file: views of storages that are read when asked for."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from qface_jax.errors import DataError

# Tensors with more values than their storage repeat them; of all tensors together.
_MOST_REPEATED = 1 << 24
# Name of a storage class or dtype in `torch` -> numpy type of what is stored; numpy has
# no bfloat16, so that its 16 bits are read as they are and widened by `_widened`.
_BFLOAT16 = "bfloat16"
TYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "UntypedStorage": "u1",
    "float32": "f4",
    "float": "f4",
    "float64": "f8",
    "double": "f8",
    "float16": "f2",
    "half": "f2",
    "bfloat16": _BFLOAT16,
    "int64": "i8",
    "long": "i8",
    "int32": "i4",
    "int": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "?",
}


class StoredType(NamedTuple):
    """What a storage holds.

    Attributes:
        name: As PyTorch calls it.
        code: numpy's type code, or "bfloat16".
    """

    name: str
    code: str

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return 2 if self.code == _BFLOAT16 else np.dtype(self.code).itemsize


class Storage:
    """A run of values of one type that tensors are views of; read when it is needed."""

    def __init__(self, stored: StoredType, size: int, read: Callable[[], bytes]):
        """Describes a storage.

        Args:
            stored: Type of the values.
            size: Count of values.
            read: Returns the values' bytes in little-endian order.
        """
        self.stored, self.size, self._read = stored, size, read

    def values(self, stored: StoredType) -> np.ndarray:
        """Returns all values as the given type, widened where numpy lacks it."""
        data = self._read()
        expected = self.size * self.stored.itemsize
        if len(data) < expected:
            raise DataError(
                f"a tensor's data ends after {len(data):,} of {expected:,} bytes; the "
                "file is cut off: copy it again"
            )
        return _widened(data[:expected], stored)


def _widened(data: bytes, stored: StoredType) -> np.ndarray:
    if stored.code != _BFLOAT16:
        return np.frombuffer(data, np.dtype(stored.code).newbyteorder("<"))
    # bfloat16 is the upper half of a float32.
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


class StoredTensor(NamedTuple):
    """A tensor of the file: a view of a storage, read when it is asked for.

    Attributes:
        storage: Where the values are.
        offset: First value of the tensor in it.
        shape: Sizes.
        strides: Values between neighbours along each axis.
        stored: Type of the values.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    stored: StoredType

    @property
    def view(self) -> tuple:
        """What tells it from other tensors: equal ones are the same numbers."""
        return id(self.storage), self.offset, self.shape, self.strides, self.stored

    def array(self, values: np.ndarray) -> np.ndarray:
        """Returns the tensor, bfloat16 as float32.

        Args:
            values: All values of its storage, as `Storage.values` gives them.

        Raises:
            DataError: if the view reaches beyond the storage.
        """
        reach = self.offset + sum(
            (side - 1) * step
            for side, step in zip(self.shape, self.strides, strict=True)
        )
        empty = 0 in self.shape
        outside = min((self.offset, *self.shape, *self.strides)) < 0 or (
            not empty and reach >= len(values)
        )
        if outside:
            raise DataError(
                f"a tensor of shape {list(self.shape)}, strides {list(self.strides)} "
                f"from {self.offset} does not lie within its {len(values):,} values; "
                "the file is damaged: copy it again"
            )
        if empty:
            return np.zeros(self.shape, values.dtype)
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :],
            self.shape,
            tuple(step * values.itemsize for step in self.strides),
        )
        return np.array(view, values.dtype.newbyteorder("="))


def arrays(tensors: Mapping[str, StoredTensor]) -> dict[str, np.ndarray]:
    """Returns tensors by name; each storage is read once, equal views share an array.

    Raises:
        DataError: if a view reaches beyond its storage, or all together repeat the
            values of their storages more often than weights do.
    """
    of_storage: dict[tuple, dict[tuple, StoredTensor]] = {}
    for tensor in tensors.values():
        key = (id(tensor.storage), tensor.stored)
        of_storage.setdefault(key, {})[tensor.view] = tensor
    made: dict[tuple, np.ndarray] = {}
    repeated = 0
    for views in of_storage.values():
        first = next(iter(views.values()))
        values = first.storage.values(first.stored)
        count = sum(math.prod(tensor.shape) for tensor in views.values())
        repeated += max(count - len(values), 0)
        if repeated > _MOST_REPEATED:
            raise DataError(
                f"its tensors repeat {repeated:,} numbers of the file or more, "
                f"expected at most {_MOST_REPEATED:,}: save them by themselves "
                "(tensor.clone())"
            )
        made |= {view: tensor.array(values) for view, tensor in views.items()}
    return {name: made[tensor.view] for name, tensor in tensors.items()}
