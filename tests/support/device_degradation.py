"""The same draws on the host and on the device, for the tests of the latter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import steps as host_steps
from qface_jax.data_pipelines.device_degradation import steps
from qface_jax.tables import RECIPES

COUNT = 8


def settings(recipe, **changes):
    """Options of a recipe of which every step is taken always."""
    params = base.get_config().degrade[recipe]
    for name in list(params):
        if name == "probability" or name.endswith("_probability"):
            params[name] = 1.0
    params.update(changes)
    return params


def both(monkeypatch, recipe, images, params, *, seed=0):
    """What the two forms of a recipe make of pictures by the same draws."""
    numbers = np.random.default_rng(seed).random((len(images), 64), np.float32)

    def of_host(count, row):
        return tf.constant(numbers)[row, :count]

    # The host decodes by TensorFlow's default in some recipes, a few grey levels off.
    accurate = partial(host_steps.jpeg, dct_method="INTEGER_ACCURATE")
    monkeypatch.setattr(host_steps, "jpeg", lambda *arguments: accurate(*arguments[:3]))
    monkeypatch.setattr(host_steps, "uniform", of_host)
    monkeypatch.setattr(steps, "uniform", lambda count, rows: numbers[:, :count])
    host = tf.function(lambda image, row: RECIPES[recipe].draw(image, row, params))
    on_host = [host(image, tf.constant(row)) for row, image in enumerate(images)]
    device = jax.jit(partial(RECIPES[recipe].draw_on_device, params=params))
    on_device = device(jnp.asarray(images), None)
    monkeypatch.undo()
    return np.stack([picture.numpy() for picture in on_host]), np.asarray(on_device)


def off(got, expected):
    """Grey levels that each pixel is off."""
    assert got.dtype == expected.dtype == np.uint8 and got.shape == expected.shape
    return np.abs(got.astype(int) - expected.astype(int))
