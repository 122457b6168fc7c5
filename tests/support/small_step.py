"""Single training steps for the tests, on any number of the virtual devices."""

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax import models, objectives
from qface_jax.models.network import TrunkOutput
from qface_jax.objectives.objective import Context, Encoders
from qface_jax.planning.plan import Counts
from qface_jax.sharded import parallel
from qface_jax.train import state
from qface_jax.train.setup import build


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

    The step leaves its arguments as they are. With `shapes_only` the state is abstract:
    enough to compile the step, and cheaper.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.optim.accumulation_steps = parts
    mesh = parallel.make_mesh(jax.devices()[:devices])
    setup = build(config, Counts(classes, 100), mesh, model=model)
    places = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract)
    first = setup.abstract
    if not shapes_only:
        first = state.jit_create(setup.create, places)(jax.random.key(0))
    step = jax.jit(
        setup.step_fn.__wrapped__, out_shardings=(places, setup.shard.replicated)
    )
    images = batch(32, classes, views=objectives.entry(config).views)
    rows = parallel.to_device(images, setup.shard.rows)
    key = jax.device_put(jax.random.key(9), setup.shard.replicated)
    return step, first, rows, key


def loss_of(objective, features, head, labels, kept, *, key=None, sample=None):
    """Loss and outcome of features that are given in place of images.

    What another encoder would make of the images is that encoder itself, where it is
    an array, and else the same features.
    """

    def train(backbone, images, *, feature_map=False):
        return images, {}

    def evaluate(encoder, images):
        return encoder if isinstance(encoder, jax.Array) else images

    context = Context(kept, jax.lax.stop_gradient(head), sample, key)
    return objective.loss(
        Encoders(train, evaluate),
        {"backbone": {}, "head": head},
        {"images": features, "labels": jnp.asarray(labels)},
        context,
    )


def momentum(state_):
    """The momentum of SGD, as nested as the parameters."""
    (trace,) = (part.trace for part in state_.opt_state if hasattr(part, "trace"))
    return trace
