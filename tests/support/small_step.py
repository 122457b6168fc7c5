"""Single training steps for the tests, on any number of the virtual devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax import models, objectives
from qface_jax.models.network import TrunkOutput
from qface_jax.sharded import parallel
from qface_jax.train import optim, state
from qface_jax.train.step import train_step


def batch(rows, classes, seed=0, views=1):
    """Random images and labels; three rows have none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows).astype(np.int32)
    labels[[1, 2, 9]] = -1
    shape = (rows, views, 112, 112, 3) if views > 1 else (rows, 112, 112, 3)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    return {"images": images, "labels": labels}


def pixels(params, stats, images, *, train, key):
    """The trunk of a backbone for tests: every 28th pixel."""
    return TrunkOutput(images[:, ::28, ::28, :]), stats


def _linear(params, stats, output, *, train, key):
    flat = output.map.reshape(output.map.shape[0], -1)
    return 3 * jnp.tanh(jnp.einsum("bi,id->bd", flat, params["kernel"])), stats


def _linear_init(key):
    return {"kernel": jax.random.normal(key, (48, 16))}, {}


# A backbone in which no two images meet; 16 dimensions.
LINEAR = models.Model(init=_linear_init, trunk=pixels, neck=_linear)


def step_of(config, model, classes, devices, *, parts=1, shapes_only=False):
    """A jitted step and the state, batch and key it starts from.

    With `shapes_only` the state is abstract: enough to compile the step, and cheaper.
    """
    mesh = parallel.make_mesh(jax.devices()[:devices])
    shard = parallel.shardings(mesh)
    objective = objectives.build(config, classes, mesh)
    tx, _ = optim.build(config.optim, optim.length(config, 100))
    create = partial(state.create, model=model, objective=objective, tx=tx)
    abstract = state.abstract_state(create, jax.random.key(0), shard)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    first = abstract
    if not shapes_only:
        first = state.jit_create(create, places)(jax.random.key(0))
    step = jax.jit(
        partial(
            train_step,
            apply=model.apply_with_map if objective.takes_feature_map else model.apply,
            objective=objective,
            tx=tx,
            mesh=mesh,
            accumulation_steps=parts,
        ),
        out_shardings=(places, shard.replicated),
    )
    images = batch(32, classes, views=objectives.views(config))
    rows = parallel.to_device(images, shard.rows)
    key = jax.device_put(jax.random.key(9), shard.replicated)
    return step, first, rows, key


def momentum(state_):
    """The momentum of SGD, as nested as the parameters."""
    (trace,) = (part.trace for part in state_.opt_state if hasattr(part, "trace"))
    return trace
