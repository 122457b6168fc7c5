"""Hue as Pillow turns it, by way of HSV in 8 bits, in whole numbers alone.

Pillow divides in double and single precision by turns, and not every accelerator rounds
a quotient correctly. Here each is a fraction of whole numbers, cut off or rounded.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qface_jax.data_pipelines.device_degradation.resampling import Planes

_LEVELS = 255  # of hue, saturation and value
_SECTORS = 6  # of the circle of colours
# Hues that are whole numbers, which Pillow's rounding makes a little less, and so cuts
# off to one less: all such colours of that hue, whatever their saturation and value.
_CUT = (*range(1, 32), *range(88, 105, 4), *range(129, 150, 2), *range(153, 210, 4))
_CUT += (176, 184)
_WORDS = [
    sum(1 << (hue - first) for hue in _CUT if first <= hue < first + 32)
    for first in range(0, _LEVELS + 1, 32)
]

Whole = Int[Array, "b h w"]


def turn(planes: Planes, share: Float[Array, " b"]) -> Planes:
    """Turns the hue of every pixel by a share of the circle of colours.

    As torchvision's `adjust_hue` on a Pillow image: each pixel becomes hue, saturation
    and value in whole numbers of 0 .. 255, trunc(255 share) is added to the hue modulo
    256, and it becomes red, green and blue again. The way there and back alone moves
    colours by a few grey levels; grey pixels stay as they are.

    Args:
      planes: float32 [b, 3, h, w], whole numbers 0 .. 255: red, green, blue.
      share: float32 [b] in -0.5 .. 0.5.

    Returns:
      As `planes`.
    """
    hue, saturation, value = _to_hsv(planes)
    # A cast cuts off the fraction of either sign, and so does torchvision.
    by = (share * _LEVELS).astype(jnp.int32)[:, None, None]
    return _to_rgb((hue + by) % (_LEVELS + 1), saturation, value)


def _to_hsv(planes: Planes) -> tuple[Whole, Whole, Whole]:
    """Red, green, blue to hue, saturation and value, whole numbers 0 .. 255."""
    red, green, blue = jnp.moveaxis(planes.astype(jnp.int32), 1, 0)
    most = jnp.maximum(jnp.maximum(red, green), blue)
    span = most - jnp.minimum(jnp.minimum(red, green), blue)
    # Sixths of the circle, times the span.
    sixths = jnp.where(
        most == red,
        jnp.where(green < blue, _SECTORS * span, 0) + green - blue,
        jnp.where(most == green, 2 * span + blue - red, 4 * span + red - green),
    )
    whole = jnp.maximum(_SECTORS * span, 1)
    hue = jax.lax.div(_LEVELS * sixths, whole)
    hue -= jnp.where(hue * whole == _LEVELS * sixths, _is_cut(hue), 0)
    saturation = jax.lax.div(_LEVELS * span, jnp.maximum(most, 1))
    return jnp.where(span == 0, 0, hue), saturation, most


def _is_cut(hue: Whole) -> Whole:
    """1 for the hues of _CUT, 0 for others."""
    word = jnp.zeros_like(hue, jnp.uint32)
    for number, bits in enumerate(_WORDS):
        word = jnp.where(hue >> 5 == number, jnp.uint32(bits), word)
    return ((word >> (hue & 31).astype(jnp.uint32)) & 1).astype(jnp.int32)


def _to_rgb(hue: Whole, saturation: Whole, value: Whole) -> Planes:
    """Hue, saturation and value to float32 [b, 3, h, w], whole numbers 0 .. 255."""
    place = _SECTORS * hue
    sector = place // _LEVELS
    within = place - sector * _LEVELS
    whole = _LEVELS * _LEVELS
    low, falling, rising = (
        (2 * value * (whole - saturation * part) + whole) // (2 * whole)
        for part in (_LEVELS, within, _LEVELS - within)
    )
    # One row of each sector: which of the four is red, green and blue.
    sectors = (
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    )
    colours = sectors[0]
    for number, chosen in enumerate(sectors[1:], start=1):
        this = sector % _SECTORS == number
        colours = [
            jnp.where(this, new, old) for new, old in zip(chosen, colours, strict=True)
        ]
    return jnp.stack(colours, 1).astype(jnp.float32)
