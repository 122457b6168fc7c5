"""Colours of whole batches as Pillow changes them, each picture by its own draws.

The steps are those of `degradation.photometric` and take the same draws.
"""

import itertools

import jax.numpy as jnp
from jaxtyping import Array, Float

from qface_jax.data_pipelines.device_degradation import hue
from qface_jax.data_pipelines.device_degradation.resampling import Planes

_ORDERS = tuple(itertools.permutations(range(3)))

Factors = Float[Array, " b"]


def jitter(
    planes: Planes,
    draws: Float[Array, "b 4"],
    *,
    strength: float,
    hue_shift: float | None = None,
) -> Planes:
    """Changes brightness, contrast or hue, and saturation, in a random order.

    Each factor is uniform in max(0, 1 - strength) .. 1 + strength, and each change
    ends in whole numbers, as with torchvision's ColorJitter on Pillow images.

    Args:
      planes: float32 [b, 3, h, w], whole numbers 0 .. 255.
      draws: float32 [b, 4] in [0, 1): of brightness, of contrast or hue, of saturation,
        and the order.
      strength: at least 0.
      hue_shift: None: the contrast is changed; else the hue is in its place, by a share
        of the circle of colours uniform in -hue_shift .. hue_shift, 0 .. 0.5.

    Returns:
      As `planes`.
    """
    low = max(0.0, 1.0 - strength)
    factors = low + (1.0 + strength - low) * draws[:, :3]
    changes = [_brightness, _contrast, _saturation]
    amounts = [factors[:, 0], factors[:, 1], factors[:, 2]]
    if hue_shift is not None:
        changes[1], amounts[1] = hue.turn, (2.0 * draws[:, 1] - 1.0) * hue_shift
    order = jnp.array(_ORDERS)[(draws[:, 3] * len(_ORDERS)).astype(jnp.int32)]
    for which in (order[:, turn, None, None, None] for turn in range(3)):
        changed = [
            change(planes, amount)
            for change, amount in zip(changes, amounts, strict=True)
        ]
        planes = jnp.where(
            which == 0, changed[0], jnp.where(which == 1, changed[1], changed[2])
        )
    return planes


def brighten_and_saturate(
    planes: Planes, draws: Float[Array, "b 2"], *, strengths: tuple[float, float]
) -> Planes:
    """Changes brightness, then saturation, each ending in whole numbers.

    Args:
      planes: float32 [b, 3, h, w], whole numbers 0 .. 255.
      draws: float32 [b, 2] in [0, 1).
      strengths: of brightness and saturation, at least 0; the factor is uniform in
        max(0, 1 - strength) .. 1 + strength.

    Returns:
      As `planes`.
    """
    brightness, saturation = (
        low + (1.0 + strength - low) * draws[:, column]
        for column, strength in enumerate(strengths)
        for low in [max(0.0, 1.0 - strength)]
    )
    return _saturation(_brightness(planes, brightness), saturation)


def _brightness(planes: Planes, factor: Factors) -> Planes:
    return _whole(planes * _each(factor))


def _contrast(planes: Planes, factor: Factors) -> Planes:
    mean = jnp.mean(_gray(planes), axis=(2, 3), keepdims=True)
    mean = jnp.floor(mean + 0.5)
    return _whole(mean + _each(factor) * (planes - mean))


def _saturation(planes: Planes, factor: Factors) -> Planes:
    gray = _gray(planes)
    return _whole(gray + _each(factor) * (planes - gray))


def _gray(planes: Planes) -> Float[Array, "b 1 h w"]:
    """Pillow's luma; its 16-bit fixed point is exact in float32."""
    red, green, blue = planes[:, 0:1], planes[:, 1:2], planes[:, 2:3]
    return jnp.floor((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536)


def _whole(planes: Planes) -> Planes:
    return jnp.floor(jnp.clip(planes, 0.0, 255.0))


def _each(factor: Factors) -> Float[Array, "b 1 1 1"]:
    return factor[:, None, None, None]
