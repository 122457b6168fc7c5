"""Digests of arrays: 64 bits that a single changed element always changes.

Each 32-bit word of an array is mixed with its position by a function that is a
bijection of the word where the position is fixed, and the results are added modulo
2^32, in two lanes of different seeds. A sum has no order: the digest does not depend on
how an array is cut into shards, every device adds up its own part, and no host holds
the whole. One changed element changes exactly one term and so always the sum; damage of
several passes unseen with a chance of 2^-64.

The mixing function is the finalizer of MurmurHash3 (Appleby, 2011), whose steps, a
shift with exclusive or and a product with an odd number, can each be undone.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SEEDS = (0x9E3779B9, 0x7F4A7C15)  # of the lanes: halves of 2^64 / golden ratio
_MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)
_WORDS = 2**32  # positions that one word can tell apart
# Elements below which an array that is whole on an accelerator is added up on the host:
# that is faster than to compile one more function.
_SMALL = 2**16
_BLOCK = 2**15  # elements that NumPy has in hand at a time, within the cache


def of_arrays(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digest of each array, 16 hexadecimal digits.

    Every process of a run must call it with the same arrays in the same order.

    Args:
        arrays: Name -> array of bool, integers or floats of 1, 2, 4 or 8 bytes, of
            NumPy or of JAX, however it lies on the devices.

    Raises:
        TypeError: An array has another type.
    """
    small = {name: array for name, array in arrays.items() if _is_on_host(array)}
    # One after the other: each sum is a few bytes, and all are fetched together.
    sums = {
        name: lanes_on_devices(array)
        for name, array in arrays.items()
        if name not in small
    }
    fetched = jax.device_get((sums, small))
    lanes = fetched[0] | {name: lanes_of(array) for name, array in fetched[1].items()}
    return {name: as_text(lanes[name]) for name in arrays}


def as_text(lanes: np.ndarray) -> str:
    """Returns the two sums of an array as 16 hexadecimal digits."""
    return "".join(f"{int(lane):08x}" for lane in lanes)


def _is_on_host(array: Any) -> bool:
    """Whether it is added up here: the host has all of it, or may have with no loss."""
    if not isinstance(array, jax.Array):
        return True
    in_reach = all(device.platform == "cpu" for device in array.devices())
    return array.is_fully_replicated and (in_reach or array.size < _SMALL)


@jax.jit
def lanes_on_devices(array: jax.Array) -> jax.Array:
    """Returns both sums of an array, uint32 [2], the same on all devices.

    Args:
        array: Of any shape, type as of `of_arrays`.
    """
    words, shape = _device_words(array)
    position = jnp.uint32(0)
    for dims in _groups(shape):
        index = jnp.zeros(shape, jnp.uint32)
        for dim, stride in dims:
            step = jax.lax.broadcasted_iota(jnp.uint32, shape, dim)
            index += step * jnp.uint32(stride)
        position = _mixed(position) ^ index
    return jnp.stack([_lane(jnp, words, position, seed) for seed in _SEEDS])


def lanes_of(array: np.ndarray) -> np.ndarray:
    """Returns both sums of an array of this host, uint32 [2].

    Args:
        array: As of `lanes_on_devices`, whose sums are the same.
    """
    words = _host_words(np.asarray(array))
    groups, flat = _groups(words.shape), words.reshape(-1)
    sizes = [int(np.prod([words.shape[dim] for dim, _ in dims])) for dims in groups]
    sums = np.zeros(2, np.uint32)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        # From the whole index to one index for each group of dimensions.
        rest = np.arange(start, start + block.size, dtype=np.uint64)
        indices = []
        for size in reversed(sizes[1:]):
            rest, index = np.divmod(rest, np.uint64(size))
            indices.insert(0, index)
        position = np.zeros(block.shape, np.uint32)
        for index in (rest, *indices):
            position = _mixed(position) ^ index.astype(np.uint32)
        sums += np.stack([_lane(np, block, position, seed) for seed in _SEEDS])
    return sums


def _lane(xp: Any, words: Any, position: Any, seed: int) -> Any:
    """The sum of one lane: of the words, each mixed with its mixed position."""
    key = _mixed(position + xp.uint32(seed))
    return xp.sum(_mixed(words ^ key), dtype=xp.uint32)


def _mixed(word: Any) -> Any:
    """A bijection of uint32 in which each bit depends on all."""
    first, second = (word.dtype.type(number) for number in _MULTIPLIERS)
    shifts = [word.dtype.type(number) for number in (16, 13)]
    word = word ^ (word >> shifts[0])
    word = word * first
    word = word ^ (word >> shifts[1])
    word = word * second
    return word ^ (word >> shifts[0])


def _groups(shape: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """Neighbouring dimensions whose common index fits into one word, with strides.

    An array of up to 2^32 elements has one group: its position is its usual index.

    >>> _groups((3, 5))
    [[(0, 5), (1, 1)]]
    >>> _groups((2**20, 2**20, 8))
    [[(0, 1)], [(1, 8), (2, 1)]]
    """
    groups: list[list[tuple[int, int]]] = [[]]
    stride = 1
    for dim in reversed(range(len(shape))):
        if groups[0] and stride * shape[dim] > _WORDS:
            groups.insert(0, [])
            stride = 1
        groups[0].insert(0, (dim, stride))
        stride *= shape[dim]
    return groups


def _device_words(array: jax.Array) -> tuple[jax.Array, tuple[int, ...]]:
    """The bits as uint32; of 8 bytes as a last dimension of two, the lower first."""
    size = _size(array.dtype)
    if array.dtype == jnp.bool_:
        words = array.astype(jnp.uint32)
    elif size == 8:
        words = jax.lax.bitcast_convert_type(array, jnp.uint32)
    else:
        unsigned = jnp.dtype(f"uint{8 * size}")
        words = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    return words, words.shape


def _host_words(array: np.ndarray) -> np.ndarray:
    size = _size(array.dtype)
    array = np.ascontiguousarray(array).reshape(array.shape)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if size == 8:
        return array.reshape(*array.shape, 1).view("<u4")
    return array.view(f"<u{size}").astype(np.uint32)


def _size(dtype: Any) -> int:
    """Bytes of an element; raises TypeError for types that have no digest."""
    known = jnp.issubdtype(dtype, np.bool_) or jnp.issubdtype(dtype, np.integer)
    known = known or jnp.issubdtype(dtype, np.floating)
    if not known or dtype.itemsize not in (1, 2, 4, 8):
        raise TypeError(
            f"got an array of {dtype}, expected bool, integers or floats of 1, 2, 4 or "
            "8 bytes: others have no digest"
        )
    return dtype.itemsize
