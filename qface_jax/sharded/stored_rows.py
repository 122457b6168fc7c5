"""Rows that are stored in bfloat16: moved as they are, widened where they are used.

XLA's CPU backend does not gather, slice or scatter bfloat16: it first writes the whole
array in float32. As 16-bit integers the same bits are moved without that.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float32, Shaped


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
