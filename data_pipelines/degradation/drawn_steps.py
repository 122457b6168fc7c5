"""Steps that the recipes of several modules share: by chance, mirrored, shrunk."""

from collections.abc import Callable

import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation import geometry

SIDE = 112  # of every picture that the networks see
DRAWS_OF_SHRINK = 3


def sometimes(
    draw: tf.Tensor,
    probability: float,
    change: Callable[[tf.Tensor], tf.Tensor],
    image: tf.Tensor,
) -> tf.Tensor:
    """Applies `change` where the draw is below the probability.

    Args:
      draw: float32 [] in [0, 1).
      probability: 0 .. 1.
      change: takes the picture to another of its shape and type.
      image: any shape.

    Returns:
      As `image`.
    """
    if probability in (0, 1):  # decided already: the graph needs no branch
        return tf.ensure_shape(change(image) if probability else image, image.shape)
    # Kept as one call: spread out in the graph, every operation of a branch that is
    # not taken is still visited, which costs more than the branch that is.
    whole = tf.function(
        change, autograph=False, experimental_attributes={"_noinline": True}
    )
    changed = tf.cond(draw < probability, lambda: whole(image), lambda: image)
    return tf.ensure_shape(changed, image.shape)


def flip(image: tf.Tensor) -> tf.Tensor:
    """Mirrors a picture [h, w, 3], left and right changed."""
    return tf.reverse(image, [1])


def shrink(image: tf.Tensor, draws: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Goes down to a side drawn from `sides` and up again, sometimes through JPEG.

    Args:
      image: uint8 [112, 112, 3].
      draws: float32 [DRAWS_OF_SHRINK] in [0, 1): the side, whether through JPEG, and
        its quality.
      params: `sides`, `antialias`, `jpeg_probability`, `jpeg_quality`.

    Returns:
      uint8 [112, 112, 3].
    """
    sides = tuple(params.sides)
    row = tf.cast(draws[0] * len(sides), tf.int32)
    side = tf.constant(sides)[row]
    table = geometry.table(SIDE, sides, ("bicubic",), antialias=params.antialias)
    small = geometry.shrink(table.down(0, side), tf.cast(image, tf.float32))
    small = sometimes(
        draws[1],
        params.jpeg_probability,
        lambda small: tf.cast(
            jpeg(truncated(small), draws[2], params.jpeg_quality), tf.float32
        ),
        small,
    )
    return truncated(geometry.grow(table.up(0, side), small))


def truncated(image: tf.Tensor) -> tf.Tensor:
    """Float to uint8 as the published code does: clip and cut off the fraction."""
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def rounded(image: tf.Tensor) -> tf.Tensor:
    """Float to the nearest uint8."""
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0) + 0.5, tf.uint8)


def jpeg(
    small: tf.Tensor, draw: tf.Tensor, quality: tuple[int, int], dct_method: str = ""
) -> tf.Tensor:
    """Sends a small picture through JPEG.

    Args:
      small: uint8 [h, w, 3].
      draw: float32 [] in [0, 1): where between the two qualities.
      quality: lowest and highest, within 1 .. 100.
      dct_method: of the decoder, as of `tf.io.decode_jpeg`.

    Returns:
      uint8 [h, w, 3].
    """
    low, high = quality
    drawn = low + tf.cast(draw * (high - low + 1), tf.int32)
    packed = tf.raw_ops.EncodeJpegVariableQuality(images=small, quality=drawn)
    return tf.io.decode_jpeg(packed, channels=3, dct_method=dct_method)
