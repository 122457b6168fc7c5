"""Compiled passes of a backbone; each is compiled once for a model."""

import functools

import jax
import jax.numpy as jnp

IMAGES = jax.random.uniform(
    jax.random.key(7), (16, 112, 112, 3), minval=-1.0, maxval=1.0
)


@functools.cache
def initial(model):
    return jax.jit(model.init)


@functools.cache
def forward(model, *, train):
    @jax.jit
    def run(params, stats, images, key):
        return model.apply(params, stats, images, train=train, key=key)

    return run


@functools.cache
def gradient(model):
    @jax.jit
    def run(params, stats, images, key):
        def loss(params):
            features, _ = model.apply(params, stats, images, train=True, key=key)
            weights = jnp.cos(jnp.arange(features.size, dtype=jnp.float32))
            return jnp.mean(features * weights.reshape(features.shape))

        return jax.grad(loss)(params)

    return run
