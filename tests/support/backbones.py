"""Small backbones for the tests, and compiled functions of them that files share."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from qface_jax.models import build

IMAGES = jax.random.uniform(
    jax.random.key(7), (16, 112, 112, 3), minval=-1.0, maxval=1.0
)


def model_config(**changes):
    """A `model` group, of "tiny" unless changed."""
    config = {
        "backbone": "tiny",
        "embedding_dim": 16,
        "dropout": 0.0,
        "dtype": "float32",
        "remat": False,
        "batch_norm_groups": 1,
        "freeze_batch_norm": False,
        "graph": "",
        "input_mean": (127.5, 127.5, 127.5),
        "input_std": (127.5, 127.5, 127.5),
        "color_order": "RGB",
    }
    return ConfigDict(config | changes)


@functools.cache
def built(**changes):
    """The model of a config, the same object for the same changes."""
    return build(model_config(**changes))


@functools.cache
def initial(model):
    """Jitted key -> (params, stats)."""
    return jax.jit(model.init)


@functools.cache
def forward(model, *, train):
    """Jitted (params, stats, images, key) -> (features, stats)."""

    @jax.jit
    def run(params, stats, images, key):
        return model.apply(params, stats, images, train=train, key=key)

    return run


@functools.cache
def gradient(model):
    """Jitted (params, stats, images, key) -> gradients of a training step."""

    @jax.jit
    def run(params, stats, images, key):
        def loss(params):
            features, _ = model.apply(params, stats, images, train=True, key=key)
            weights = jnp.cos(jnp.arange(features.size, dtype=jnp.float32))
            return jnp.mean(features * weights.reshape(features.shape))

        return jax.grad(loss)(params)

    return run
