"""Two views of a picture from one set of draws: a recipe per name, as in `degrade`.

A recipe maps (image uint8 [112, 112, 3], seed int64 [2], params) to uint8
[2, 112, 112, 3]: the degraded view, then the other.
"""

from collections.abc import Callable

import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation import photometric
from qface_jax.data_pipelines.degradation.degrade import DRAWS_OF_SHRINK, shrink

_PHOTOMETRIC = 2  # draws: brightness and saturation


def octuplet(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """A picture and the same at a side drawn from `sides`, both changed alike before.

    Mirrored with `flip_probability`; brightness and saturation times factors within
    1 - strength .. 1 + strength.

    References:
      Knoche et al., Octuplet Loss: Make Face Recognition Robust to Image Resolution,
      FG 2023, sections 3.3 and 4.1. The ranges of the factors were not published.
    """
    draws = tf.random.stateless_uniform([1 + _PHOTOMETRIC + DRAWS_OF_SHRINK], seed)
    mirrored = tf.reverse(image, [1])
    image = tf.where(draws[0] < params.flip_probability, mirrored, image)
    image = photometric.brighten_and_saturate(
        image,
        draws[1 : 1 + _PHOTOMETRIC],
        strengths=(params.brightness, params.saturation),
    )
    return tf.stack([shrink(image, draws[1 + _PHOTOMETRIC :], params), image])


PairRecipe = Callable[[tf.Tensor, tf.Tensor, ConfigDict], tf.Tensor]
PAIR_RECIPES: dict[str, PairRecipe] = {"octuplet": octuplet}
