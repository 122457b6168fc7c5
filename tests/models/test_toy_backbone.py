"""A backbone of a user's own, named where a backbone's name is expected."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import models, tables
from support.small_run import small

NAME = "toy_nets:TOY"
MODULE = """
from flax import linen as nn

from qface_jax.models.network import Backbone, BackboneEntry
from qface_jax.options import POSITIVE, Option


class Trunk(nn.Module):
    channels: int

    @nn.compact
    def __call__(self, images, train):
        return nn.relu(nn.Conv(self.channels, (7, 7), strides=16, name="conv")(images))


class Neck(nn.Module):
    embedding_dim: int

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.embedding_dim, name="fc")(x.reshape(len(x), -1))


def build(*, embedding_dim, dropout, dtype, remat, channels):
    return Backbone(Trunk(channels), Neck(embedding_dim))


TOY = BackboneEntry(build, {"channels": Option(4, POSITIVE, "of the map")})
"""


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A config's `model` group that names the toy."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_nets.py").write_text(MODULE)
    config = small("optim.schedule=constant")
    config.model.backbone = NAME
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(tables, "_trusted", {NAME})
        yield config


def test_it_is_built_with_its_options(named):
    assert models.feature_map_shape(named.model) == (7, 7, 4)
    model = models.build(named.model, options={"channels": 6})
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == (7 * 7 * 3 + 1) * 6 + (7 * 7 * 6 + 1) * 16
    assert stats == {}
    assert params["conv"]["kernel"].shape == (7, 7, 3, 6)


def test_features_map_and_gradients(named):
    model = models.build(named.model)
    images = jax.random.uniform(jax.random.key(1), (3, 112, 112, 3), minval=-1)

    @jax.jit
    def run(params, stats):
        apply = functools.partial(model.apply_with_map, train=True, key=None)

        def loss(params):
            outputs, _ = apply(params, stats, images)
            return jnp.sum(jnp.sin(outputs[0])), outputs

        return jax.grad(loss, has_aux=True)(params)

    grads, (features, feature_map) = run(*model.init(jax.random.key(0)))
    assert (features.shape, feature_map.shape) == ((3, 16), (3, 7, 7, 4))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads))
