"""Values of an imported graph while it is traced: arrays that need not be moved.

ONNX puts channels first, this package's convolutions are fast with channels last. So
each value remembers in which order its axes are stored, and only an operator that needs
a certain order moves them: from the first convolution to the last nothing is moved.

A value is static (a numpy array) where it follows from shapes and constants alone.
Reshape, Slice and the like get their arguments so, while the program is traced.
"""

import dataclasses
import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.models.onnx.graph import Node

IMAGE_AXIS = "image"  # of the vmap over the images of a batch
# Numbers of one value that is computed while the program is traced, and of all of them
# together; tables of positions have some thousands.
MAX_STATIC, MAX_ALL_STATIC = 1 << 22, 1 << 26
# Numbers of any value of one image: 1 GiB in float32.
MAX_NUMBERS = 1 << 28


class Value(NamedTuple):
    """An array and the order in which its axes are stored.

    Attributes:
        array: numpy if static, else of JAX.
        axes: for each stored axis, which axis of the value it is.
    """

    array: np.ndarray | jax.Array
    axes: tuple[int, ...]

    @property
    def static(self) -> bool:
        """Whether it is known while the program is traced."""
        return isinstance(self.array, np.ndarray)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in the value's own order of axes."""
        return tuple(self.array.shape[self.place(axis)] for axis in range(self.rank))

    def place(self, axis: int) -> int:
        """Returns where one of the value's axes is stored; it may count from behind."""
        return self.axes.index(_within(axis, self.rank))

    def stored(self, axes: tuple[int, ...]) -> np.ndarray | jax.Array:
        """Returns the array with its axes in the given order."""
        if axes == self.axes:
            return self.array
        return self.array.transpose([self.axes.index(axis) for axis in axes])

    def plain(self) -> np.ndarray | jax.Array:
        """Returns the array in the value's own order of axes."""
        return self.stored(tuple(range(self.rank)))

    def widened(self, rank: int) -> "Value":
        """Returns the value with axes of length 1 in front, as for broadcasting."""
        more = rank - self.rank
        if not more:
            return self
        array = self.array.reshape((1,) * more + self.array.shape)
        return Value(array, (*range(more), *(axis + more for axis in self.axes)))


def in_order(array: np.ndarray | jax.Array) -> Value:
    """Returns a value whose axes are stored in their own order."""
    if isinstance(array, np.generic):
        array = np.asarray(array)
    return Value(array, tuple(range(array.ndim)))


def channels_last(rank: int) -> tuple[int, ...]:
    """Returns the order that the convolutions want: of NCHW it is NHWC."""
    return (0, *range(2, rank), 1)


def _within(axis, rank):
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a value with {rank} axes")
    return axis % rank


def bounded(shape: Iterable[int]) -> tuple[int, ...]:
    """Returns the shape of a static value that is about to be made.

    Raises:
        ValueError: it has more than MAX_STATIC numbers, or a negative size.
    """
    shape = tuple(int(size) for size in shape)
    if min(shape, default=0) < 0 or math.prod(shape) > MAX_STATIC:
        raise ValueError(
            f"got shape {list(shape)} of a value that does not depend on the pixels, "
            f"expected at most {MAX_STATIC:,} numbers"
        )
    return shape


def axes_within(axes: Any, rank: int) -> tuple[int, ...]:
    """Returns axes counted from the front.

    Raises:
        ValueError: one is out of range.
    """
    return tuple(_within(int(axis), rank) for axis in axes)


def integers(value: Value, what: str) -> tuple[int, ...]:
    """Returns a static value's numbers.

    Raises:
        ValueError: they depend on the pixels, so no program can be compiled for them.
    """
    if not value.static:
        raise ValueError(
            f"its {what} depends on the image's pixels, expected numbers that follow "
            "from shapes and constants"
        )
    return tuple(int(number) for number in value.array.ravel())


def listed(
    node: Node, name: str, value: Value | None, what: str
) -> tuple[int, ...] | None:
    """Returns integers that are an attribute in old opsets and an input in new ones."""
    if value is not None:
        return integers(value, what)
    numbers = node.attributes.get(name)
    return None if numbers is None else tuple(numbers)


def library_of(value: Value) -> ModuleType:
    """Returns numpy for what is static, else jax.numpy."""
    return np if value.static else jnp


def traced(array: np.ndarray | jax.Array) -> jax.Array:
    """Returns a JAX array of at most 32 bits a number."""
    narrow = {"int64": np.int32, "uint64": np.uint32, "float64": np.float32}
    return jnp.asarray(array, narrow.get(str(array.dtype), array.dtype))


def matched(*values: Value) -> tuple[list[np.ndarray | jax.Array], tuple[int, ...]]:
    """Returns arrays that broadcast with each other, and the order of their axes.

    The largest value keeps its order, the others follow it. Where the compute is in
    bfloat16, numbers that meet it become bfloat16.
    """
    rank = max(value.rank for value in values)
    axes = max(values, key=lambda value: (value.rank, value.array.size)).axes
    arrays = [value.widened(rank).stored(axes) for value in values]
    if all(value.static for value in values):
        bounded(np.broadcast_shapes(*(array.shape for array in arrays)))
        return arrays, axes
    arrays = [traced(array) for array in arrays]
    floats = {a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)}
    if len(floats) > 1:
        narrow = min(floats, key=lambda dtype: dtype.itemsize)
        arrays = [a.astype(narrow) if a.dtype in floats else a for a in arrays]
    return arrays, axes


def float32(value: Value) -> jax.Array:
    """Returns a value's numbers in float32, in its own order of axes."""
    return traced(value.plain()).astype(jnp.float32)


@dataclasses.dataclass
class Context:
    """What an operator may need besides its inputs.

    Attributes:
        opset: version of the operators.
        dtype: of the compute: float32 or bfloat16.
        train: drop out.
        frozen: batch norms normalise by the running statistics, not by the batch.
        key: of this image's dropout, or None.
        mapped: whether this is one of the images of a vmap, not the whole batch.
        updated: value name -> new running statistic, filled by batch norms.
        static_numbers: of all static values that have been computed.
    """

    opset: int
    dtype: Any
    train: bool
    frozen: bool
    key: jax.Array | None
    updated: dict[str, jax.Array]
    mapped: bool = True
    static_numbers: int = 0

    def note(self, value: Value) -> None:
        """Counts the numbers of a value that was computed, of one image.

        Of a whole batch, whose size an export leaves open, the first axis is the batch.

        Raises:
            ValueError: they are, or with those before they become, too many.
        """
        of_batch = not (self.mapped or value.static)
        size = math.prod(value.array.shape[1:] if of_batch else value.array.shape)
        if value.static:
            self.static_numbers += size
        if size > MAX_NUMBERS or self.static_numbers > MAX_ALL_STATIC:
            raise ValueError(
                f"got {size:,} numbers of shape {list(value.shape)}, expected at most "
                f"{MAX_NUMBERS:,} for an image, and {MAX_ALL_STATIC:,} in all that "
                "do not depend on the pixels"
            )
