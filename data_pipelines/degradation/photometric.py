"""Colours as Pillow changes them, hence torchvision: brightness, contrast and more."""

import functools

import tensorflow as tf

from qface_jax.data_pipelines.degradation import hue

_LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # of red, green, blue
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
        changes[1], amounts[1] = hue.turn, (2.0 * draws[1] - 1.0) * hue_shift

    def in_order(order: tuple[int, ...]) -> tf.Tensor:
        # One plane per colour: mixing them is then arithmetic on whole rows.
        planes = tf.transpose(tf.reshape(image, [-1, 3]))
        planes = tf.cast(planes, tf.float32)
        for which in order:
            planes = changes[which](planes, amounts[which])
        planes = tf.transpose(tf.cast(planes, tf.uint8))
        return tf.reshape(planes, tf.shape(image))

    # Each order one call, so that the other five cost one node each (see degrade).
    calls = [
        tf.function(
            functools.partial(in_order, order),
            autograph=False,
            experimental_attributes={"_noinline": True},
        )
        for order in _ORDERS
    ]
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
    planes = tf.cast(tf.transpose(tf.reshape(image, [-1, 3])), tf.float32)
    planes = _saturation(_brightness(planes, factors[0]), factors[1])
    return tf.reshape(tf.transpose(tf.cast(planes, tf.uint8)), tf.shape(image))


def _brightness(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.minimum(planes * factor, 255.0))


def _contrast(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    mean = tf.floor(tf.reduce_mean(_gray(planes)) + 0.5)
    return _whole(mean + factor * (planes - mean))


def _saturation(planes: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    gray = _gray(planes)
    return _whole(gray + factor * (planes - gray))


def _gray(planes: tf.Tensor) -> tf.Tensor:
    """Pillow's luma, [1, n]; its 16-bit fixed point is exact in float32."""
    return tf.floor(tf.matmul(tf.constant([_LUMA]), planes) + 0.5)


def _whole(planes: tf.Tensor) -> tf.Tensor:
    # One operation, where tf.clip_by_value is two.
    clipped = tf.raw_ops.ClipByValue(
        t=planes, clip_value_min=0.0, clip_value_max=255.0
    )
    return tf.floor(clipped)
