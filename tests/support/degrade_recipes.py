"""Draws of the recipes that degrade pictures, for their tests."""

import numpy as np
import tensorflow as tf

from qface_jax.configs import base
from qface_jax.tables import RECIPES


def seeds(count):
    return [tf.constant([9, position], tf.int64) for position in range(count)]


def settings(recipe, **changes):
    params = base.get_config().degrade[recipe]
    for name in list(params):
        if name == "probability" or name.endswith("_probability"):
            params[name] = 0.0
    params.update(changes)
    return params


def run(recipe, image, params, count):
    """Draws of a recipe, [count, 112, 112, 3]."""
    call = tf.function(lambda seed: RECIPES[recipe].draw(image, seed, params))
    return np.stack([call(seed).numpy() for seed in seeds(count)])
