"""Down- and up-sampling on the device: the same pictures as the input pipeline makes.

Losing everything finer than r pixels is linear, M[r] @ image @ M[r]^T with one small
matrix per side, so a batch in which every image has its own side is a gather and two
batched matrix products.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qface_jax.data_pipelines.degradation import resample

Image = Float[Array, "b h h 3"]


def round_trip_table(
    size: int, sides: tuple[int, ...], *, kernel: str = "bicubic", antialias: bool
) -> Float[Array, "s h h"]:
    """Returns the matrices that go from `size` down to each side and up again.

    Args:
      size: h, side of the pictures, at least 1.
      sides: s of them, each at least 1; `size` itself leaves a picture alone.
      kernel: a key of `data_pipelines.resample.KERNELS`, for both ways.
      antialias: widen the kernel on the way down.

    Returns:
      float32 [s, h, h].

    Raises:
      ValueError: a size below 1 or an unknown kernel.
    """
    return jnp.asarray(resample.round_trips(size, sides, kernel, antialias=antialias))


def down_up(
    images: Image, table: Float[Array, "s h h"], rows: Int[Array, " b"]
) -> Image:
    """Sends every image down to its own side and up again.

    out[b] = clip(M[rows[b]] @ images[b] @ M[rows[b]]^T, 0, 255)

    Args:
      images: [b, h, h, 3], 0 .. 255.
      table: of `round_trip_table`.
      rows: [b], which side of the table, 0 .. s - 1.

    Returns:
      [b, h, h, 3], 0 .. 255, not rounded; `truncate` makes whole numbers of it.
    """
    matrices = table[rows]
    # Half a grey level is lost where an accelerator rounds the factors to 10 bits.
    exact = jax.lax.Precision.HIGHEST
    columns = jnp.einsum("bvw,bhwc->bhvc", matrices, images, precision=exact)
    out = jnp.einsum("buh,bhvc->buvc", matrices, columns, precision=exact)
    return jnp.clip(out, 0, 255)


def truncate(images: Image) -> Image:
    """Cuts off the fraction, as the published code does on its way to uint8."""
    return jnp.floor(images)


def draw_sides(key: Array, batch_size: int, *, num_sides: int) -> Int[Array, " b"]:
    """Draws a row of the table for every image, all equally likely.

    Args:
      key: a typed PRNG key.
      batch_size: b, at least 1.
      num_sides: s, at least 1.

    Returns:
      int32 [b] in 0 .. s - 1.
    """
    return jax.random.randint(key, (batch_size,), 0, num_sides)
