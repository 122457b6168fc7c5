"""Colours as Pillow changes them, hence torchvision: brightness, contrast and more."""

import functools

import tensorflow as tf

from qface_jax.data_pipelines.degradation import hue
from qface_jax.data_pipelines.degradation.steps import clipped, one_call

_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def jitter(
    image: tf.Tensor,
    draws: tf.Tensor,
    *,
    strength: float,
    hue_shift: float | None = None,
) -> tf.Tensor:
    """Changes brightness, contrast or hue, and saturation, in a random order.

    Each factor is uniform in max(0, 1 - strength) .. 1 + strength, and each change
    ends in whole numbers, as with torchvision's ColorJitter on Pillow images.

    Args:
      image: uint8 [h, w, 3].
      draws: float32 [4] in [0, 1): of brightness, of contrast or hue, of saturation,
        and the order.
      strength: at least 0.
      hue_shift: None: the contrast is changed; else the hue is in its place, by a share
        of the circle of colours uniform in -hue_shift .. hue_shift, 0 .. 0.5.

    Returns:
      uint8 [h, w, 3].
    """
    low = max(0.0, 1.0 - strength)
    factors = low + (1.0 + strength - low) * draws[:3]
    changes = [_brightness, _contrast, _saturation]
    amounts = [factors[0], factors[1], factors[2]]
    if hue_shift is not None:
        changes[1], amounts[1] = _hue, (2.0 * draws[1] - 1.0) * hue_shift

    def in_order(order: tuple[int, ...]) -> tf.Tensor:
        pixels = _pixels(image)
        for which in order:
            pixels = changes[which](pixels, amounts[which])
        return tf.reshape(tf.cast(pixels, tf.uint8), tf.shape(image))

    calls = [one_call(functools.partial(in_order, order)) for order in _ORDERS]
    return tf.switch_case(tf.cast(draws[3] * len(_ORDERS), tf.int32), calls)


def brighten_and_saturate(
    image: tf.Tensor, draws: tf.Tensor, *, strengths: tuple[float, float]
) -> tf.Tensor:
    """Changes brightness, then saturation, each ending in whole numbers.

    Args:
      image: uint8 [h, w, 3].
      draws: float32 [2] in [0, 1).
      strengths: of brightness and saturation, at least 0; the factor is uniform in
        max(0, 1 - strength) .. 1 + strength.

    Returns:
      uint8 [h, w, 3].
    """
    low = [max(0.0, 1.0 - strength) for strength in strengths]
    spans = [1.0 + strength - a for strength, a in zip(strengths, low, strict=True)]
    factors = tf.constant(low) + tf.constant(spans) * draws
    pixels = _saturation(_brightness(_pixels(image), factors[0]), factors[1])
    return tf.reshape(tf.cast(pixels, tf.uint8), tf.shape(image))


# The changes take pixels [n, 3] to pixels, float32, all of them whole numbers.


def _pixels(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(image, [-1, 3]), tf.float32)


def _brightness(pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.minimum(pixels * factor, 255.0))


def _contrast(pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    mean = tf.floor(tf.reduce_mean(_luma(pixels)) + 0.5)
    return _whole(mean + factor * (pixels - mean))


def _saturation(pixels: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    # A product, since TensorFlow repeats a column several times more slowly.
    gray = tf.matmul(_luma(pixels)[:, tf.newaxis], tf.ones([1, 3]))
    return _whole(gray + factor * (pixels - gray))


def _hue(pixels: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return tf.transpose(hue.turn(tf.transpose(pixels), share))


def _luma(pixels: tf.Tensor) -> tf.Tensor:
    """Pillow's luma, [n]; its 16-bit fixed point is exact in float32."""
    red, green, blue = pixels[:, 0], pixels[:, 1], pixels[:, 2]
    return tf.floor((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536)


def _whole(pixels: tf.Tensor) -> tf.Tensor:
    return tf.floor(clipped(pixels))
