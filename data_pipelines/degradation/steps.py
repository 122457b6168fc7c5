"""Steps that recipes are made of, and the degradation of an evaluation."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from qface_jax.data_pipelines.degradation import geometry, resample, resizing
from qface_jax.data_pipelines.degradation.recipe import RESCALE_KERNELS, SIDE

_TAILS = 4  # standard deviations that a blur reaches either way


def uniform(count: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns the draws of a picture, float32 [count] in [0, 1), seed int64 [2]."""
    return tf.random.stateless_uniform([count], seed)


def between(draw: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """Returns low + (high - low) * draw."""
    low, high = bounds
    return low + (high - low) * draw


def down_up(image: tf.Tensor, *, side: int, antialias: bool) -> tf.Tensor:
    """Goes down to one side and up again, bicubic: the picture of an evaluation.

    The small picture is neither clipped nor rounded; the large one is clipped and
    truncated, as in the published Octuplet code.

    Args:
      image: uint8 [112, 112, 3].
      side: in pixels, 1 .. 112; at 112 the picture is left alone.
      antialias: in the down-sampling.

    Returns:
      uint8 [112, 112, 3].

    Raises:
      ValueError: the side is out of range.
    """
    if not 1 <= side <= SIDE:
        raise ValueError(f"side: got {side}, must be in 1 .. {SIDE}")
    if side == SIDE:
        return image
    down = tf.constant(resample.weights(SIDE, side, "bicubic", antialias=antialias))
    up = tf.constant(resample.weights(side, SIDE, "bicubic", antialias=antialias))
    return truncated(
        resizing.grow(up, resizing.shrink(down, tf.cast(image, tf.float32)))
    )


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
    branch = one_call(change)
    changed = tf.cond(draw < probability, lambda: branch(image), lambda: image)
    return tf.ensure_shape(changed, image.shape)


def one_call(change: Callable) -> Callable:
    """Keeps a branch of a condition as one call.

    Spread out in the graph, every operation of a branch that is not taken is still
    visited, which costs more than the branch that is.
    """
    return tf.function(
        change, autograph=False, experimental_attributes={"_noinline": True}
    )


def flip(image: tf.Tensor) -> tf.Tensor:
    """Mirrors a picture [h, w, 3], left and right changed."""
    return tf.reverse(image, [1])


def shrink(
    image: tf.Tensor,
    draws: tf.Tensor,
    sides: tuple[int, ...],
    *,
    antialias: bool,
    jpeg_probability: float = 0.0,
    jpeg_quality: tuple[int, int] = (100, 100),
) -> tf.Tensor:
    """Goes down to a side drawn from `sides` and up again, sometimes through JPEG.

    Args:
      image: uint8 [112, 112, 3].
      draws: float32 [DRAWS_OF_SHRINK] in [0, 1): the side, whether through JPEG, and
        its quality.
      sides: in pixels, 1 .. 112, all equally likely.
      antialias: in the down-sampling.
      jpeg_probability: of going through JPEG at the small size.
      jpeg_quality: lowest and highest, within 1 .. 100.

    Returns:
      uint8 [112, 112, 3].
    """
    sides = tuple(sides)
    row = tf.cast(draws[0] * len(sides), tf.int32)
    side = tf.constant(sides)[row]
    table = resizing.table(SIDE, sides, ("bicubic",), antialias=antialias)
    small = resizing.shrink(table.down(0, side), tf.cast(image, tf.float32))
    small = sometimes(
        draws[1],
        jpeg_probability,
        lambda small: tf.cast(
            jpeg(truncated(small), draws[2], jpeg_quality), tf.float32
        ),
        small,
    )
    return truncated(resizing.grow(table.up(0, side), small))


def rescale(
    image: tf.Tensor, draws: tf.Tensor, share: tuple[float, float]
) -> tf.Tensor:
    """Goes down to a random share of the side and up, each way by a random kernel.

    Args:
      image: uint8 [112, 112, 3].
      draws: float32 [3] in [0, 1): the side, and the kernel of each way.
      share: of 112 px, lowest and highest.

    Returns:
      uint8 [112, 112, 3].
    """
    # OpenCV, which the reference calls, has no anti-aliasing but in its area kernel.
    # Differs from AdaFace/dataset/augmenter.py: there the small picture is rounded to
    # bytes before it is enlarged.
    sides, side = _drawn_side(draws[0], share)
    whole = tf.cast(image, tf.float32)
    small = _drawn_kernel(
        draws[1], lambda kernel: resizing.plain_shrink(whole, side, kernel, sides)
    )
    large = _drawn_kernel(
        draws[2], lambda kernel: resizing.plain_grow(small, kernel, sides)
    )
    return rounded(tf.ensure_shape(large, image.shape))


def rescale_with_jpeg(image: tf.Tensor, draws: tf.Tensor, params: Any) -> tf.Tensor:
    """Goes down and up again as Pillow does it, sometimes through JPEG in between.

    Args:
      image: uint8 [112, 112, 3].
      draws: float32 [5] in [0, 1): those of `rescale`, whether through JPEG, and its
        quality.
      params: `rescale_side`, `jpeg_probability`, `jpeg_quality`.

    Returns:
      uint8 [112, 112, 3].
    """
    # Differs from Pillow: its box kernel takes whole pixels, ours also parts of them;
    # the two are one where 112 is a multiple of the side.
    sides, side = _drawn_side(draws[0], params.rescale_side)
    kernels = tf.cast(draws[1:3] * len(RESCALE_KERNELS), tf.int32)
    table = resizing.table(SIDE, sides, RESCALE_KERNELS, antialias=True)
    down, up = table.down(kernels[0], side), table.up(kernels[1], side)
    small = sometimes(
        draws[3],
        params.jpeg_probability,
        lambda small: jpeg(small, draws[4], params.jpeg_quality, "INTEGER_ACCURATE"),
        rounded(resizing.shrink(down, tf.cast(image, tf.float32))),
    )
    return rounded(resizing.grow(up, tf.cast(small, tf.float32)))


def _drawn_side(
    draw: tf.Tensor, share: tuple[float, float]
) -> tuple[tuple[int, ...], tf.Tensor]:
    """Returns the sides within a share of 112 px, and the drawn one, int32 []."""
    low, high = share
    smallest, largest = max(1, int(low * SIDE)), max(1, int(high * SIDE))
    side = tf.cast((low + (high - low) * draw) * SIDE, tf.int32)
    sides = tuple(range(smallest, largest + 1))
    return sides, tf.clip_by_value(side, smallest, largest)


def _drawn_kernel(draw: tf.Tensor, way: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """Returns what `way` makes of the drawn one of RESCALE_KERNELS."""
    ways = [one_call(functools.partial(way, kernel)) for kernel in RESCALE_KERNELS]
    return tf.switch_case(tf.cast(draw * len(ways), tf.int32), ways)


def crop_box(draws: tf.Tensor, params: Any) -> geometry.Box:
    """Draws a box by `crop_area` and `crop_aspect`, see `geometry.draw_box`."""
    return geometry.draw_box(
        draws, SIDE, area=params.crop_area, aspect=params.crop_aspect
    )


def cover(
    image: tf.Tensor,
    draws: tf.Tensor,
    grey: tf.Tensor,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tf.Tensor:
    """Fills a drawn box with one drawn grey.

    Args:
      image: uint8 [112, 112, 3].
      draws: of the box, float32 [BOX_DRAWS] in [0, 1).
      grey: float32 [] in [0, 1), of black to white.
      area: of the box, as of `geometry.draw_box`.
      aspect: likewise.

    Returns:
      uint8 [112, 112, 3].
    """
    top, left, height, width = geometry.draw_box(draws, SIDE, area=area, aspect=aspect)
    places = tf.range(SIDE)
    rows = (places >= top) & (places < top + height)
    columns = (places >= left) & (places < left + width)
    covered = (rows[:, tf.newaxis] & columns)[..., tf.newaxis]
    return tf.where(covered, tf.cast(grey * 256, tf.uint8), image)


def blur(image: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Blurs a picture by a Gaussian; beyond the edge lies what is at the edge.

    Args:
      image: uint8 [112, 112, 3].
      sigma: float32 [], in pixels, above 0 and at most 28: it reaches one picture far.

    Returns:
      uint8 [112, 112, 3].
    """
    # As a matrix from pixels to pixels: one width serves every drawn sigma, and pixels
    # beyond the edge are the edge's own weight.
    reach = SIDE
    taps = tf.range(-reach, SIDE + reach, dtype=tf.float32)
    offsets = (tf.range(SIDE, dtype=tf.float32)[:, tf.newaxis] - taps) / sigma
    weights = tf.where(tf.abs(offsets) <= _TAILS, tf.exp(-tf.square(offsets) / 2), 0.0)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    left = tf.reduce_sum(weights[:, : reach + 1], axis=1, keepdims=True)
    right = tf.reduce_sum(weights[:, reach + SIDE - 1 :], axis=1, keepdims=True)
    matrix = tf.concat([left, weights[:, reach + 1 : reach + SIDE - 1], right], axis=1)
    return rounded(resizing.grow(matrix, tf.cast(image, tf.float32)))


def brighten(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies uint8 [h, w, 3] by a factor, float32 [], rounded and clipped."""
    return rounded(tf.cast(image, tf.float32) * factor)


def truncated(image: tf.Tensor) -> tf.Tensor:
    """Float to uint8 as the published code does: clip and cut off the fraction."""
    return tf.cast(clipped(image), tf.uint8)


def rounded(image: tf.Tensor) -> tf.Tensor:
    """Float to the nearest uint8."""
    return tf.cast(clipped(image) + 0.5, tf.uint8)


def clipped(image: tf.Tensor) -> tf.Tensor:
    """Float to 0 .. 255, in one pass, where tf.clip_by_value takes two."""
    return tf.raw_ops.ClipByValue(t=image, clip_value_min=0.0, clip_value_max=255.0)


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
