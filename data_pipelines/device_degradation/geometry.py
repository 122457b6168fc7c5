"""Crops, rotation and mirroring of whole batches, each picture by its own draws.

The steps are those of `degradation.geometry` and take the same draws.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from qface_jax.data_pipelines.degradation.recipe import BOX_ATTEMPTS
from qface_jax.data_pipelines.device_degradation.resampling import Planes, apply

Draws = Float[Array, "b n"]
# Top, left, height and width in pixels, int32 [b] each.
Box = tuple[Int[Array, " b"], Int[Array, " b"], Int[Array, " b"], Int[Array, " b"]]


def flip(planes: Planes) -> Planes:
    """Mirrors pictures [b, 3, h, w], left and right changed."""
    return planes[..., ::-1]


def draw_box(
    draws: Draws,
    side: int,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Box:
    """Draws a box inside of each picture, as torchvision's RandomResizedCrop does.

    Its area is uniform in `area`, the logarithm of its aspect in that of `aspect`; of
    ten such boxes it is the first that fits, the whole picture where none does.

    Args:
      draws: float32 [b, BOX_DRAWS] in [0, 1).
      side: of the pictures, in pixels.
      area: smallest and largest share of the picture, within (0, 1].
      aspect: smallest and largest width / height, above 0.
    """
    low, high = area
    areas = (low + (high - low) * draws[:, 2::2]) * side * side
    narrow, wide = (math.log(bound) for bound in aspect)
    aspects = jnp.exp(narrow + (wide - narrow) * draws[:, 3::2])
    widths = jnp.round(jnp.sqrt(areas * aspects)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(areas / aspects)).astype(jnp.int32)
    fits = (widths >= 1) & (widths <= side) & (heights >= 1) & (heights <= side)
    width = height = jnp.full(draws.shape[0], side, jnp.int32)
    for attempt in reversed(range(BOX_ATTEMPTS)):
        width = jnp.where(fits[:, attempt], widths[:, attempt], width)
        height = jnp.where(fits[:, attempt], heights[:, attempt], height)
    top = (draws[:, 0] * (side - height + 1).astype(jnp.float32)).astype(jnp.int32)
    left = (draws[:, 1] * (side - width + 1).astype(jnp.float32)).astype(jnp.int32)
    return top, left, height, width


def keep_box(planes: Planes, box: Box) -> Planes:
    """Keeps a box of each picture where it is; the rest turns black.

    Args:
      planes: float32 [b, 3, side, side].
      box: of `draw_box`.

    Returns:
      As `planes`.
    """
    top, left, height, width = (part[:, None] for part in box)
    place = jnp.arange(planes.shape[-1], dtype=jnp.int32)[None]
    rows = (place >= top) & (place < top + height)
    columns = (place >= left) & (place < left + width)
    kept = rows[:, None, :, None] & columns[:, None, None, :]
    return jnp.where(kept, planes, 0.0)


def enlarge_box(planes: Planes, box: Box) -> Planes:
    """Lets a box of each picture fill it, bilinear, as torchvision's resized_crop does.

    Args:
      planes: float32 [b, 3, side, side], whole numbers 0 .. 255.
      box: of `draw_box`.

    Returns:
      As `planes`.
    """
    top, left, height, width = box
    side = planes.shape[-1]
    large = apply(
        _enlargement(top, height, side), _enlargement(left, width, side), planes
    )
    return jnp.floor(jnp.clip(large, 0.0, 255.0) + 0.5)


def _enlargement(
    first: Int[Array, " b"], length: Int[Array, " b"], side: int
) -> Float[Array, "b o i"]:
    """Matrices that let some pixels of a row fill it."""
    place = jnp.arange(side, dtype=jnp.float32)[None]
    first, length = (part.astype(jnp.float32)[:, None] for part in (first, length))
    inside = (place + 0.5) * (length / side) - 0.5
    centre = first + jnp.clip(inside, 0.0, length - 1.0)
    return jnp.maximum(1.0 - jnp.abs(place[:, None] - centre[..., None]), 0.0)


def rotate(planes: Planes, degrees: Float[Array, " b"]) -> Planes:
    """Rotates each picture about its centre, bilinear; what comes in is black.

    The four pixels around a place are looked up at once, as one number each: eight
    binary digits for a colour.

    Args:
      planes: float32 [b, 3, side, side], whole numbers 0 .. 255.
      degrees: float32 [b], counter-clockwise.

    Returns:
      As `planes`; fractions are cut off.
    """
    side = planes.shape[-1]
    angle = degrees * (math.pi / 180)
    cos, sin = (f(angle)[:, None, None] for f in (jnp.cos, jnp.sin))
    middle = (side - 1) / 2
    place = jnp.arange(side, dtype=jnp.float32)
    x, y = place[None, None, :], place[None, :, None]
    # Pixel (x, y) comes from there; the outermost pixels fade to black over one pixel.
    from_x = cos * x - sin * y + (middle - middle * (cos - sin))
    from_y = sin * x + cos * y + (middle - middle * (cos + sin))
    from_x, from_y = (jnp.clip(place, -1.0, float(side)) for place in (from_x, from_y))
    left = jnp.minimum(jnp.floor(from_x), side - 1.0)
    above = jnp.minimum(jnp.floor(from_y), side - 1.0)
    right_share, below_share = from_x - left, from_y - above
    at = (above.astype(jnp.int32) + 1) * (side + 1) + left.astype(jnp.int32) + 1
    around = _looked_up(_around(planes), at)
    colours = [(around >> digits) & 255 for digits in (0, 8, 16)]
    corners = jnp.stack(colours, 1).astype(jnp.float32)
    upper, lower = (
        (1.0 - right_share)[:, None] * corners[..., first]
        + right_share[:, None] * corners[..., first + 1]
        for first in (0, 2)
    )
    mixed = (1.0 - below_share)[:, None] * upper + below_share[:, None] * lower
    return jnp.floor(mixed)


def _around(planes: Planes) -> Int[Array, "b n 4"]:
    """Each pixel with those to the right, below, and below to the right, black beyond.

    Of the pictures with a black edge, n = (side + 1)^2 places.
    """
    red, green, blue = jnp.moveaxis(planes.astype(jnp.int32), 1, 0)
    packed = jnp.pad(red | (green << 8) | (blue << 16), [(0, 0), (1, 1), (1, 1)])
    size = packed.shape[-1] - 1
    corners = [
        packed[:, down : down + size, right : right + size]
        for down in (0, 1)
        for right in (0, 1)
    ]
    return jnp.stack(corners, -1).reshape(-1, size * size, 4)


def _looked_up(
    around: Int[Array, "b n 4"], at: Int[Array, "b h w"]
) -> Int[Array, "b h w 4"]:
    return jax.vmap(
        lambda table, places: table.at[places].get(mode="promise_in_bounds")
    )(around, at)
