"""Resampling of whole batches as matrix products, each picture by its own kernel.

The matrices are those of `degradation.resample`, worked out where they are used: all of
a recipe's kernels and sides would be tens of megabytes of constants in the program,
and looking one up costs more than the few operations that make its entries.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Planes = Float[Array, "b 3 h w"]
Matrices = Float[Array, "b o i"]
Size = int | Int[Array, " b"]

# Half a grey level is lost where an accelerator rounds the factors to 8 or 10 bits.
EXACT = jax.lax.Precision.HIGHEST


def matrices(
    size_in: Size,
    size_out: Size,
    canvas: tuple[int, int],
    kernels: tuple[str, ...],
    drawn: Int[Array, " b"],
    *,
    antialias: bool,
) -> Matrices:
    """Returns for each picture the matrix that resamples a row of its pixels.

    Sizes may differ from picture to picture; each matrix lies in the first rows and
    columns of a canvas. Columns beyond `size_in` are 0; rows beyond `size_out` repeat
    the last, so that a resampled picture goes on as its edge.

    Args:
      size_in: pixels before, 1 .. canvas[1], of all or int32 [b].
      size_out: pixels after, 1 .. canvas[0], of all or int32 [b].
      canvas: o and i, rows and columns of each matrix.
      kernels: keys of `KERNELS`.
      drawn: which of the kernels, int32 [b].
      antialias: widen the kernel when the picture gets smaller; "area" always averages
        over the whole new pixel, "nearest" always takes one pixel.

    Returns:
      float32 [b, o, i]; rows sum to 1.
    """
    rows, columns = canvas
    new, old = (
        jnp.reshape(jnp.asarray(size, jnp.int32), (-1, 1, 1))
        for size in (size_out, size_in)
    )
    at = jnp.minimum(jnp.arange(rows, dtype=jnp.int32)[None, :, None], new - 1)
    of = jnp.arange(columns, dtype=jnp.int32)[None, None, :]
    weights = KERNELS[kernels[0]](at, of, new, old, antialias)
    for number, name in enumerate(kernels[1:], start=1):
        this = (drawn == number)[:, None, None]
        weights = jnp.where(this, KERNELS[name](at, of, new, old, antialias), weights)
    weights = jnp.where(of < old, weights, 0.0)
    weights = jnp.broadcast_to(weights, (drawn.shape[0], rows, columns))
    return weights / jnp.sum(weights, axis=2, keepdims=True)


# Each: places [1|b, o, 1] and [1, 1, i], sizes [1|b, 1, 1], antialias -> weights, not
# normalised. The distance of two pixels is worked out in whole numbers, so that no
# rounding moves a pixel's centre across another's border.


def _nearest(at, of, new, old, antialias):
    return (of == (2 * at + 1) * old // (2 * new)).astype(jnp.float32)


def _area(at, of, new, old, antialias):
    # Both in units of 1 / (new old) of the picture: exact, also for odd ratios.
    overlap = jnp.minimum((of + 1) * new, (at + 1) * old) - jnp.maximum(
        of * new, at * old
    )
    # Of a larger picture's pixel it is the one old pixel that holds its centre.
    return jnp.where(
        old > new,
        jnp.maximum(overlap, 0).astype(jnp.float32),
        _nearest(at, of, new, old, antialias),
    )


def _distance(at, of, new, old, antialias):
    """Distance of the centres, in old pixels, or in new ones where those are larger."""
    twice = (2 * of + 1) * new - (2 * at + 1) * old
    unit = jnp.maximum(new, old) if antialias else new
    return twice.astype(jnp.float32) / (2 * unit).astype(jnp.float32)


def _bilinear(*places):
    return jnp.maximum(1.0 - jnp.abs(_distance(*places)), 0.0)


def _bicubic(*places):
    """Keys' cubic with a = -1/2, as in TensorFlow, JAX and Pillow (OpenCV: -3/4)."""
    t = jnp.abs(_distance(*places))
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return jnp.where(t <= 1, near, jnp.where(t < 2, far, 0.0))


def _lanczos(*places):
    """Lanczos' windowed sinc with three lobes, sinc(t) sinc(t / 3)."""
    t = _distance(*places)
    angle = jnp.where(t == 0, 1.0, t) * (jnp.pi / 3)
    sine = jnp.sin(angle)
    product = (3.0 - 4.0 * sine * sine) * sine * sine / (3.0 * angle * angle)
    return jnp.where(t == 0, 1.0, jnp.where(jnp.abs(t) < 3, product, 0.0))


KERNELS: dict[str, Callable[..., jax.Array]] = {
    "area": _area,
    "bicubic": _bicubic,
    "bilinear": _bilinear,
    "lanczos": _lanczos,
    "nearest": _nearest,
}


def apply(vertical: Matrices, horizontal: Matrices, planes: Planes) -> Planes:
    """Returns V[b] @ plane @ H[b]^T of each plane of each picture.

    Args:
      vertical: float32 [b, o, h].
      horizontal: float32 [b, p, w].
      planes: float32 [b, 3, h, w].

    Returns:
      float32 [b, 3, o, p].
    """
    rows = jnp.einsum("boh,bchw->bcow", vertical, planes, precision=EXACT)
    return jnp.einsum("bpw,bcow->bcop", horizontal, rows, precision=EXACT)


def product(after: Matrices, before: Matrices) -> Matrices:
    """Returns the matrices that do `before` and then `after`, [b, o, i]."""
    return jnp.einsum("bok,bki->boi", after, before, precision=EXACT)
