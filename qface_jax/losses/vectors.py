"""Unit features, and products that stay float32 on every accelerator."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def unit(features: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Returns features / ||features||, [b, d]; a zero feature stays zero."""
    squared = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * lax.rsqrt(jnp.maximum(squared, 1e-12))


def dot(equation: str, one: Array, other: Array) -> Array:
    """Returns the einsum of two arrays in full precision.

    The default product of some accelerators is coarser than float32.
    """
    return jnp.einsum(equation, one, other, precision=lax.Precision.HIGHEST)
