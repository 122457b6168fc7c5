"""Recipes of the recognizability objective: its training pictures, and unusable ones.

They are of the form that `degrade` describes.
"""

import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation import geometry
from qface_jax.data_pipelines.degradation.drawn_steps import (
    DRAWS_OF_SHRINK,
    SIDE,
    flip,
    rounded,
    shrink,
    sometimes,
)

_TAILS = 4  # standard deviations that a blur reaches either way


def recognizability(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Mirrors, rotates and rescales a picture, each sometimes.

    Rescaling goes through a side drawn from `rescale_sides` and up again, bicubic both
    ways. The published sets are of low resolution already; for sharp ones there is a
    second rescaling, through `low_sides`, that is off by default.

    References:
      Recognizability Embedding Enhancement for Very Low-Resolution Face Recognition
      and Quality Estimation, CVPR 2023, supplement, section B. How often each step is
      taken was not published.
    """
    draws = tf.random.stateless_uniform([5 + 2 * DRAWS_OF_SHRINK], seed)
    image = sometimes(draws[0], params.flip_probability, flip, image)
    image = sometimes(
        draws[1],
        params.rotation_probability,
        lambda picture: geometry.rotate(
            picture, (2 * draws[2] - 1) * params.rotation_degrees
        ),
        image,
    )
    plain = _through(params.rescale_sides, params)
    plain.jpeg_probability = 0.0
    image = sometimes(
        draws[3],
        params.rescale_probability,
        lambda picture: shrink(picture, draws[5 : 5 + DRAWS_OF_SHRINK], plain),
        image,
    )
    low = _through(params.low_sides, params)
    return sometimes(
        draws[4],
        params.low_probability,
        lambda picture: shrink(picture, draws[5 + DRAWS_OF_SHRINK :], low),
        image,
    )


def unrecognizable(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Leaves so little of a face that nobody can be told by it.

    The picture goes through a side drawn from `sides`, is blurred, covered in part by a
    box of one grey, and made brighter or darker, each with its own probability. It
    stands in for the tiny faces that the published method collects by hand; what is
    done to a picture is this project's choice.

    References:
      Recognizability Embedding Enhancement for Very Low-Resolution Face Recognition
      and Quality Estimation, CVPR 2023: unrecognizable images.
    """
    draws = tf.random.stateless_uniform(
        [8 + DRAWS_OF_SHRINK + geometry.BOX_DRAWS], seed
    )
    of_shrink, of_box = draws[8 : 8 + DRAWS_OF_SHRINK], draws[8 + DRAWS_OF_SHRINK :]
    plain = _through(params.sides, params)
    image = sometimes(draws[0], params.flip_probability, flip, image)
    image = sometimes(
        draws[1],
        params.shrink_probability,
        lambda picture: shrink(picture, of_shrink, plain),
        image,
    )
    image = sometimes(
        draws[2],
        params.blur_probability,
        lambda picture: blur(picture, _between(draws[3], params.blur_sigma)),
        image,
    )
    image = sometimes(
        draws[4],
        params.occlusion_probability,
        lambda picture: _covered(picture, of_box, draws[5], params),
        image,
    )
    return sometimes(
        draws[6],
        params.brightness_probability,
        lambda picture: rounded(
            tf.cast(picture, tf.float32) * _between(draws[7], params.brightness)
        ),
        image,
    )


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
    return rounded(geometry.grow(matrix, tf.cast(image, tf.float32)))


def _through(sides: tuple[int, ...], params: ConfigDict) -> ConfigDict:
    """What `shrink` is told for one of a recipe's sets of sides."""
    return ConfigDict(
        {
            "sides": tuple(sides),
            "antialias": params.antialias,
            "jpeg_probability": params.get("jpeg_probability", 0.0),
            "jpeg_quality": params.get("jpeg_quality", (100, 100)),
        }
    )


def _between(draw: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    low, high = bounds
    return low + (high - low) * draw


def _covered(
    image: tf.Tensor, draws: tf.Tensor, grey: tf.Tensor, params: ConfigDict
) -> tf.Tensor:
    """Fills a drawn box with one drawn grey."""
    top, left, height, width = geometry.draw_box(
        draws, SIDE, area=params.occlusion_area, aspect=params.occlusion_aspect
    )
    places = tf.range(SIDE)
    rows = (places >= top) & (places < top + height)
    columns = (places >= left) & (places < left + width)
    covered = (rows[:, tf.newaxis] & columns)[..., tf.newaxis]
    return tf.where(covered, tf.cast(grey * 256, tf.uint8), image)
