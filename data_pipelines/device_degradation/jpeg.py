"""JPEG there and back as libjpeg does it, without the bits in between.

What is lost is lost in whole numbers: of colours, of chroma at half the side, of the
cosine transform and its quantised coefficients. All are those of libjpeg with its
accurate transform, so the pictures are its own.

A picture may be smaller than the array that it lies in. libjpeg fills the last blocks
with copies of the edge; so does whoever calls this, where the matrices of
`resampling.matrices` do it for nothing. No pixel beyond the side comes back into one
inside of it.

References:
  ITU-T T.81 (1992), annex K.1: the tables of quantisation. Independent JPEG Group,
  libjpeg: jcparam.c (quality), jccolor.c, jcsample.c, jdsample.c, jdcolor.c.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qface_jax.data_pipelines.device_degradation.resampling import Planes

BLOCK = 8  # px, side of a block
UNIT = 2 * BLOCK  # px, side of what one block of chroma covers
_FANCY = 2  # samples of chroma; where a row has no more, libjpeg does not interpolate

# 8192 sqrt(2) cos(pi (2 j + 1) i / 16), the first row by sqrt(1/2); each as it comes
# out of the products and sums in libjpeg's jfdctint.c, where the constants are rounded.
_WAVES = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633),
    (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437),
    (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433),
    (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260),
)
_DIGITS = 13  # binary, of the fractions in those
_SPARE = 2  # binary digits that are kept between the two ways
_KEPT = _DIGITS - _SPARE
_PART = 6  # binary digits in the lower part of a factor; 8 at most are in the upper
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)

Plane = Float[Array, "b h w"]
Sides = Int[Array, " b"]


def canvas(side: int) -> int:
    """Returns the side of an array that holds pictures up to a side, a multiple."""
    return -(-side // UNIT) * UNIT


def through(planes: Planes, sides: Sides, quality: Int[Array, " b"]) -> Planes:
    """Sends each picture through JPEG with chroma at half the side, and back.

    Args:
      planes: float32 [b, 3, c, c], whole numbers 0 .. 255, red, green and blue; c is a
        multiple of UNIT. Beyond a picture's side its edge goes on.
      sides: int32 [b], 1 .. c.
      quality: int32 [b], 1 .. 100.

    Returns:
      float32 [b, 3, c, c], whole numbers 0 .. 255; only what is inside of the sides is
      of the pictures.

    Raises:
      ValueError: c is no multiple of UNIT.
    """
    size = planes.shape[-1]
    if size % UNIT or planes.shape[-2] != size:
        raise ValueError(
            f"planes: got {planes.shape[-2]} x {size} px, must be square and a "
            f"multiple of {UNIT}"
        )
    luma, *chroma = _to_ycc(planes)
    halves = (sides + 1) // 2
    luma = _quantised(luma, _table(_LUMA, quality))
    table = _table(_CHROMA, quality)
    chroma = [
        _enlarged(_quantised(_halved(plane, halves), table), halves) for plane in chroma
    ]
    return _to_rgb(luma, *chroma)


def _to_ycc(planes: Planes) -> tuple[Plane, Plane, Plane]:
    """Luma and the two chroma planes, whole numbers, by sixteen binary digits."""
    red, green, blue = jnp.moveaxis(planes.astype(jnp.int32), 1, 0)
    half, middle = 1 << 15, (128 << 16) + (1 << 15) - 1
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    bluish = (-11059 * red - 21709 * green + 32768 * blue + middle) >> 16
    reddish = (32768 * red - 27439 * green - 5329 * blue + middle) >> 16
    return tuple(plane.astype(jnp.float32) for plane in (luma, bluish, reddish))


def _to_rgb(luma: Plane, bluish: Plane, reddish: Plane) -> Planes:
    bluish, reddish = (plane.astype(jnp.int32) - 128 for plane in (bluish, reddish))
    luma, half = luma.astype(jnp.int32), 1 << 15
    red = luma + ((91881 * reddish + half) >> 16)
    green = luma + ((-22554 * bluish - 46802 * reddish + half) >> 16)
    blue = luma + ((116130 * bluish + half) >> 16)
    return jnp.clip(jnp.stack([red, green, blue], 1), 0, 255).astype(jnp.float32)


def _halved(plane: Plane, halves: Sides) -> Plane:
    """Means of 2 x 2 pixels; below the last row of a picture that row goes on.

    Columns beyond the picture are means of copies of its edge, rows copies of its last
    row of means: libjpeg fills up before the one and after the other.
    """
    batch, size, _ = plane.shape
    pairs = plane.reshape(batch, size // 2, 2, size // 2, 2)
    # A half is rounded up and down by turns.
    bias = 1.0 + (jnp.arange(size // 2) % 2).astype(jnp.float32)
    means = jnp.floor((jnp.sum(pairs, (2, 4)) + bias[None, None]) / 4)
    row = jnp.arange(size // 2)[None, :, None]
    last = (halves - 1)[:, None, None]
    edge = jnp.sum(jnp.where(row == last, means, 0.0), axis=1, keepdims=True)
    return jnp.where(row > last, edge, means)


def _enlarged(plane: Plane, halves: Sides) -> Plane:
    """Twice as many pixels each way: nine parts of the nearest to three, three, one."""
    size = plane.shape[-1]
    place = jnp.arange(size)
    last = (halves - 1)[:, None, None]
    row, column = place[None, :, None], place[None, None, :]
    above = jnp.concatenate([plane[:, :1], plane[:, :-1]], 1)
    below = jnp.concatenate([plane[:, 1:], plane[:, -1:]], 1)
    below = jnp.where(row == last, plane, below)
    rows = jnp.stack([3 * plane + above, 3 * plane + below], 2)
    rows = rows.reshape(-1, 2 * size, size)
    before = jnp.concatenate([rows[..., :1], rows[..., :-1]], 2)
    after = jnp.concatenate([rows[..., 1:], rows[..., -1:]], 2)
    after = jnp.where(column == last, rows, after)
    # A half is rounded up on the left and down on the right.
    left, right = 3 * rows + before + 8, 3 * rows + after + 7
    fancy = jnp.floor(jnp.stack([left, right], 3) / 16).reshape(-1, 2 * size, 2 * size)
    plain = jnp.repeat(jnp.repeat(plane, 2, 1), 2, 2)
    return jnp.where((halves > _FANCY)[:, None, None], fancy, plain)


def _table(base: tuple[tuple[int, ...], ...], quality: Int[Array, " b"]):
    """Divisors of the coefficients of a block, int32 1 .. 255, [b, 8, 8]."""
    scale = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    steps = (jnp.array([base], jnp.int32) * scale[:, None, None] + 50) // 100
    return jnp.clip(steps, 1, 255)


def _quantised(plane: Plane, table: Int[Array, "b 8 8"]) -> Plane:
    """Each block's cosine transform in whole multiples of the table, and back."""
    blocks = plane.shape[-1] // BLOCK
    divisors = jnp.tile(table, (1, blocks, blocks))
    forward, back = _transforms(plane.shape[-1])
    # What is rounded between the passes, and how far, is libjpeg's choice.
    rows = _pass(forward, plane.astype(jnp.int32) - 128, axis=2, digits=_KEPT)
    waves = _pass(forward, rows, axis=1, digits=_DIGITS + _SPARE)
    # The transform gives eight times the coefficients.
    levels = (jnp.abs(waves) + 4 * divisors) // (8 * divisors)
    coefficients = jnp.sign(waves) * levels * divisors
    columns = _pass(back, coefficients, axis=1, digits=_KEPT)
    pixels = _pass(back, columns, axis=2, digits=_DIGITS + _SPARE + 3) + 128
    return jnp.clip(pixels, 0, 255).astype(jnp.float32)


def _pass(
    parts: Float[Array, "2 o h"], plane: jax.Array, *, axis: int, digits: int
) -> jax.Array:
    """One way of the transform in whole numbers, rounded to lose some binary digits.

    As products of factors of eight digits: even a matrix unit that rounds its factors
    to bfloat16 multiplies and sums those exactly.

    Args:
      parts: upper and lower digits of the transform, of `_transforms`.
      plane: int32 [b, c, c], within +-2^14.
      axis: of the plane, 1 or 2.
      digits: that the result loses.

    Returns:
      int32 [b, c, c].
    """
    equation = "koh,pbhw->kpbow" if axis == 1 else "koh,pbwh->kpbwo"
    upper = plane >> _PART
    factors = jnp.stack([upper, plane - (upper << _PART)]).astype(jnp.float32)
    (high, one), (other, low) = jnp.einsum(equation, parts, factors).astype(jnp.int32)
    total = (high << 2 * _PART) + ((one + other) << _PART) + low
    return (total + (1 << (digits - 1))) >> digits


def _transforms(size: int) -> tuple[jax.Array, jax.Array]:
    """The transform of every block of a row and the one back, float32 [2, size, size].

    Upper digits, as multiples of 2^_PART, and lower. With zeros between the blocks and
    all, one product is quicker on a matrix unit than many of 8 x 8 numbers.
    """
    matrix = np.kron(np.eye(size // BLOCK, dtype=np.int32), np.array(_WAVES))
    upper = (matrix + (1 << (_PART - 1))) >> _PART
    parts = np.stack([upper, matrix - (upper << _PART)]).astype(np.float32)
    return jnp.asarray(parts), jnp.asarray(np.swapaxes(parts, 1, 2))
