"""Aligned crops of encoded pictures, one by one, where there is no stream of them."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.alignment import aligned


def crop(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns a crop of a picture.

    Args:
      image: uint8 [h, w, 3], RGB.
      matrix: [2, 3], as of `alignment.similarity`; NaN gives a black crop.

    Returns:
      uint8 [112, 112, 3].
    """
    return _warp()(image, np.asarray(matrix, np.float64)).numpy()


def encoded_crop(encoded: bytes, matrix: np.ndarray) -> bytes:
    """Returns a crop of an encoded picture as PNG.

    Raises:
      PictureError: the bytes are no picture.
    """
    return as_png(crop(picture.pixels(picture.read(encoded)), matrix))


def as_png(image: np.ndarray) -> bytes:
    """Encodes uint8 [h, w, 3]."""
    return tf.io.encode_png(image).numpy()


@functools.cache  # compiled once, for pictures of all sizes
def _warp() -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    picture_of = tf.TensorSpec([None, None, 3], tf.uint8)
    transform = tf.TensorSpec([2, 3], tf.float64)
    return tf.function(
        functools.partial(aligned, size=SIDE),
        autograph=False,
        input_signature=[picture_of, transform],
    )
