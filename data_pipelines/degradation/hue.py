"""Hue as Pillow turns it, hence torchvision: by way of HSV in 8 bits."""

import tensorflow as tf

_LEVELS = 255  # of hue, saturation and value


def turn(planes: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Turns the hue of every pixel by a share of the circle of colours.

    As torchvision's `adjust_hue` on a Pillow image: each pixel becomes hue, saturation
    and value in whole numbers of 0 .. 255, trunc(255 share) is added to the hue modulo
    256, and it becomes red, green and blue again. The way there and back alone moves
    colours by a few grey levels; grey pixels stay as they are.

    Args:
      planes: float32 [3, n], whole numbers 0 .. 255: red, green, blue.
      share: float32 [] in -0.5 .. 0.5.

    Returns:
      float32 [3, n], whole numbers 0 .. 255.
    """
    hue, saturation, value = _to_hsv(planes)
    # A cast cuts off the fraction of either sign, and so does torchvision.
    turned = tf.cast(hue, tf.int32) + tf.cast(share * _LEVELS, tf.int32)
    return _to_rgb(tf.cast(turned % (_LEVELS + 1), tf.float32), saturation, value)


def _to_hsv(planes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Red, green, blue to hue, saturation, value, each float32 [n], whole numbers."""
    red, green, blue = tf.unstack(planes)
    most, least = tf.reduce_max(planes, 0), tf.reduce_min(planes, 0)
    span = most - least
    # Of grey, where hue and saturation are 0 whatever is divided.
    safe = tf.maximum(span, 1.0)
    from_red, from_green, from_blue = ((most - c) / safe for c in (red, green, blue))
    # Pillow keeps the shares in single precision and works in double in between: the
    # cut to whole numbers needs the same.
    sixths = tf.where(
        most == red,
        from_blue - from_green,
        tf.where(
            most == green,
            _sum(2.0, from_red, from_blue),
            _sum(4.0, from_green, from_red),
        ),
    )
    around = tf.math.floormod(tf.cast(sixths, tf.float64) / 6.0 + 1.0, 1.0)
    hue = _cut(tf.cast(around, tf.float32))
    saturation = _cut(span / tf.maximum(most, 1.0))
    return tf.where(span == 0, 0.0, hue), saturation, most


def _sum(base: float, plus: tf.Tensor, minus: tf.Tensor) -> tf.Tensor:
    plus, minus = tf.cast(plus, tf.float64), tf.cast(minus, tf.float64)
    return tf.cast(base + plus - minus, tf.float32)


def _cut(share: tf.Tensor) -> tf.Tensor:
    """A share to 0 .. 255, the fraction cut off in double precision."""
    whole = tf.floor(tf.cast(share, tf.float64) * _LEVELS)
    return tf.cast(tf.clip_by_value(whole, 0.0, _LEVELS), tf.float32)


def _to_rgb(hue: tf.Tensor, saturation: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Hue, saturation, value, each [n], to float32 [3, n], whole numbers."""
    place = tf.cast(hue, tf.float64) * 6.0 / _LEVELS
    sector = tf.floor(place)
    within = tf.cast(tf.cast(place - sector, tf.float32), tf.float64)
    share = tf.cast(saturation / _LEVELS, tf.float64)
    full = tf.cast(value, tf.float64)
    low, falling, rising = (
        tf.cast(tf.floor(full * (1.0 - part) + 0.5), tf.float32)
        for part in (share, share * within, share * (1.0 - within))
    )
    # One row of each sector of the circle: which of the four is red, green and blue.
    sectors = (
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    )
    number = tf.cast(sector, tf.int32) % len(sectors)
    return tf.stack(
        [
            tf.gather(tf.stack(choices, 1), number, axis=1, batch_dims=1)
            for choices in zip(*sectors, strict=True)
        ]
    )
