"""A random permutation of 0 .. n-1 that is computed where it is needed.

A Feistel network permutes the numbers of an even count of bits; values that fall
outside 0 .. n-1 are sent through it again until they come back. So a random subset of
any size, without repetition, costs its own size and not n, and whether a number is in
it is asked by the inverse.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, UInt32

ROUNDS = 6


def draw_keys(key: jax.Array, shape: tuple[int, ...] = ()) -> UInt32[Array, "*s r"]:
    """Returns the round keys of one permutation per element of `shape`."""
    return jax.random.bits(key, (*shape, ROUNDS), jnp.uint32)


def _half_bits(n: int) -> int:
    return max(1, -(-(n - 1).bit_length() // 2))


def _mix(half, key, mask):
    """A hash of half the bits; any function keeps the network a permutation."""
    x = (half ^ key) * jnp.uint32(0x9E3779B1)
    x = (x ^ (x >> 15)) * jnp.uint32(0x85EBCA6B)
    return (x ^ (x >> 13)) & mask


def _network(x, keys, n, *, inverse):
    half = _half_bits(n)
    mask = jnp.uint32((1 << half) - 1)
    left, right = x >> half, x & mask
    for r in reversed(range(ROUNDS)) if inverse else range(ROUNDS):
        key = keys[..., r]
        if inverse:
            left, right = right ^ _mix(left, key, mask), left
        else:
            left, right = right, left ^ _mix(right, key, mask)
    return (left << half) | right


def _walk(x, keys, n, *, inverse):
    """Through the network until every value lies within 0 .. n-1."""

    def outside(y):
        return jnp.any(y >= n)

    def again(y):
        return jnp.where(y >= n, _network(y, keys, n, inverse=inverse), y)

    y = _network(x.astype(jnp.uint32), keys, n, inverse=inverse)
    return lax.while_loop(outside, again, y).astype(jnp.int32)


def permute(
    index: Int[Array, " i"], keys: UInt32[Array, "*i r"], n: int
) -> Int[Array, " i"]:
    """Returns where the permutation sends each index.

    Args:
        index: In 0 .. n-1.
        keys: From `draw_keys`; one permutation for all, or one for each index.
        n: Size of the permuted range, 1 .. 2^31.
    """
    return _walk(index, keys, n, inverse=False)


def unpermute(
    value: Int[Array, " i"], keys: UInt32[Array, "*i r"], n: int
) -> Int[Array, " i"]:
    """Returns the index that the permutation sends to each value; see `permute`."""
    return _walk(value, keys, n, inverse=True)
