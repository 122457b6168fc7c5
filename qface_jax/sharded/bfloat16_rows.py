"""Rows stored in bfloat16: moved as they are, widened where used, rounded back.

XLA's CPU backend does not gather, slice or scatter bfloat16: it first writes the whole
array in float32. As 16-bit integers the same bits are moved without that.

Rounding to nearest loses every update smaller than 2^-9 of the value it is added to:
late in training the centres would stand still. Rounding up or down by chance, in
proportion to what lies between, keeps such updates on average. The chance of an element
is a hash of (key, class, column). So it does not depend on how the rows lie on the
devices or in a sample, and is computed where it is needed.

References:
    Gupta et al. Deep Learning with Limited Numerical Precision. ICML 2015.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, BFloat16, Float32, Int, Shaped, UInt32


def as_words(rows: Shaped[Array, "*s"]) -> Shaped[Array, "*s"]:
    """Returns bfloat16 rows as the integers of the same bits; others as they are."""
    if rows.dtype != jnp.bfloat16:
        return rows
    return lax.bitcast_convert_type(rows, jnp.uint16)


def from_words(words: Shaped[Array, "*s"], dtype: Any) -> Shaped[Array, "*s"]:
    """Returns the rows of that type that `as_words` turned into integers."""
    if words.dtype == dtype:
        return words
    return lax.bitcast_convert_type(words, dtype)


def widened(words: Shaped[Array, "*s"]) -> Float32[Array, "*s"]:
    """Returns what `as_words` returned as float32."""
    if words.dtype != jnp.uint16:
        return words
    # bfloat16 is the upper half of float32.
    return lax.bitcast_convert_type(words.astype(jnp.uint32) << 16, jnp.float32)


def _mix(x):
    """The finaliser of MurmurHash3: every bit of x reaches every bit of the result."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def counted_bits(
    key: jax.Array, classes: Int[Array, " r"], columns: int
) -> UInt32[Array, "r d"]:
    """Returns 32 random bits for each class and column, a function of these alone.

    Args:
        key: Key of this step and array.
        classes: The class of each row.
        columns: d.
    """
    words = jax.random.bits(key, (2,), jnp.uint32)
    rows = _mix(classes.astype(jnp.uint32) ^ words[0])
    across = jnp.arange(columns, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1) + words[1]
    return _mix(rows[:, None] ^ _mix(across)[None, :])


def round_to_bfloat16(
    x: Float32[Array, "*s"], bits: UInt32[Array, "*s"]
) -> BFloat16[Array, "*s"]:
    """Returns x rounded to one of its two neighbours in bfloat16, by chance.

    bfloat16 is the upper half of float32. Adding a random number below 2^16 to the
    lower half and cutting that half off carries with a probability equal to the share
    of the way to the next number, so the expected result is x. What bfloat16 can hold
    stays as it is, infinities and -0 included; a NaN stays a NaN. Beyond the largest
    finite bfloat16, 3.39e38, the next number is infinity.

    Args:
        x: float32.
        bits: Random; the lower 16 bits are used.
    """
    word = lax.bitcast_convert_type(x, jnp.uint32)
    upper = (word + (bits & jnp.uint32(0xFFFF))) >> 16
    rounded = lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)
    # A NaN with a full lower half would carry into its sign and become -0.
    return jnp.where(jnp.isnan(x), jnp.bfloat16(jnp.nan), rounded)
