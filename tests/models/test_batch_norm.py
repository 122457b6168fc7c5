"""Batch norm in groups: each part of the batch by its own statistics."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose

from qface_jax.errors import ConfigError
from qface_jax.models import build
from qface_jax.models.blocks import BatchNorm
from qface_jax.models.factory import _in_groups
from qface_jax.settings import config_rules
from support.backbones import IMAGES, built, forward, gradient
from support.closeness import assert_trees_close
from support.small_run import small

GROUPS = 8


@pytest.fixture(scope="module")
def grouped(tiny):
    """The smallest backbone with 1 and with 8 groups, and its initial values."""
    model, params, stats = tiny
    return model, built(batch_norm_groups=GROUPS), params, stats


def spread(*arrays):
    """Parameters on all of 8 devices, images cut over them."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    *weights, images = arrays
    return (
        *jax.device_put(tuple(weights), NamedSharding(mesh, P())),
        jax.device_put(images, NamedSharding(mesh, P("data"))),
    )


def test_one_layer_against_float64():
    module = BatchNorm()
    x = np.random.default_rng(0).normal(3.0, 2.0, (12, 2, 2, 5)).astype(np.float32)
    x[:6] += 4.0
    params = {"scale": jnp.linspace(0.5, 1.5, 5), "bias": jnp.linspace(-1.0, 1.0, 5)}
    stats = {"mean": jnp.full(5, 0.5), "var": jnp.full(5, 2.0)}

    def run(images, key):
        variables = {"params": params, "batch_stats": stats}
        y, new = module.apply(variables, images, True, mutable=["batch_stats"])
        return y.reshape(len(images), -1), new["batch_stats"]

    y, new = _in_groups(run, 3, jnp.asarray(x), None)
    groups = x.astype(np.float64).reshape(3, 4, 2, 2, 5)
    mean, var = groups.mean((1, 2, 3)), groups.var((1, 2, 3))
    expected = (groups - mean[:, None, None, None]) / np.sqrt(
        var[:, None, None, None] + 1e-5
    ) * np.float64(params["scale"]) + np.float64(params["bias"])
    assert_allclose(y, expected.reshape(12, -1), rtol=1e-5, atol=1e-5)
    assert_allclose(new["mean"], 0.9 * 0.5 + 0.1 * mean.mean(0), rtol=1e-6)
    # The unbiased variance of a group's 16 values, not that of all 48.
    unbiased = var.mean(0) * 16 / 15
    assert_allclose(new["var"], 0.9 * 2.0 + 0.1 * unbiased, rtol=1e-6)


def test_a_group_is_a_batch_of_its_own(grouped):
    """As PyTorch DDP: each process runs its own images and keeps its own statistics."""
    one_group, eight_groups, params, stats = grouped
    features, new = forward(eight_groups, train=True)(params, stats, IMAGES, None)
    alone = [
        forward(one_group, train=True)(params, stats, IMAGES[first : first + 2], None)
        for first in range(0, 16, 2)
    ]
    expected = np.concatenate([rows for rows, _ in alone])
    # Of two images the last layer divides small differences by themselves.
    assert_allclose(features, expected, rtol=1e-3, atol=1e-3)
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *[s for _, s in alone])
    assert_trees_close(new, mean, 1e-5)
    together, _ = forward(one_group, train=True)(params, stats, IMAGES, None)
    assert np.abs(features - together).max() > 0.1


def test_eight_groups_are_the_same_on_one_and_eight_devices(grouped):
    _, eight_groups, params, stats = grouped
    one = forward(eight_groups, train=True)(params, stats, IMAGES, None)
    eight = forward(eight_groups, train=True)(*spread(params, stats, IMAGES), None)
    assert len(eight[0].sharding.device_set) == 8
    assert_trees_close(eight, one, 1e-5)
    grads = gradient(eight_groups)(params, stats, IMAGES, None)
    assert_trees_close(
        gradient(eight_groups)(*spread(params, stats, IMAGES), None), grads, 1e-5
    )


def test_zero_is_a_group_for_each_device(model_config, grouped):
    _, eight_groups, params, stats = grouped
    each = build(model_config(batch_norm_groups=0), devices=GROUPS)
    got = forward(each, train=True)(params, stats, IMAGES, None)
    expected = forward(eight_groups, train=True)(params, stats, IMAGES, None)
    assert_trees_close(got, expected, 0.0)
    # Evaluation knows no devices and needs none.
    alone = build(model_config(batch_norm_groups=0))
    features, _ = alone.apply(params, stats, IMAGES[:3], train=False, key=None)
    assert features.shape == (3, 16)


def test_own_groups_exchange_nothing_but_running_statistics(model_config, grouped):
    one_group, _, params, stats = grouped
    each = build(model_config(batch_norm_groups=0), devices=8)

    def program(model, *, statistics):
        def run(params, stats, images):
            features, new = model.apply(params, stats, images, train=True, key=None)
            return (features, new) if statistics else features

        lowered = jax.jit(run).lower(*spread(params, stats, IMAGES))
        text = lowered.compile().as_text()
        reductions = len(re.findall(r" all-reduce(?:-start)?\(", text))
        others = re.findall(r" (all-gather|all-to-all|collective-permute)", text)
        return reductions, others

    assert program(each, statistics=False) == (0, [])
    reductions, others = program(each, statistics=True)
    assert others == []
    assert 0 < reductions < program(one_group, statistics=True)[0]


def test_dropout_differs_between_groups(grouped):
    _, _, params, stats = grouped
    dropping = built(batch_norm_groups=2, dropout=0.5)
    twice = jnp.concatenate([IMAGES[:8], IMAGES[:8]])
    features, _ = forward(dropping, train=True)(params, stats, twice, jax.random.key(1))
    assert np.abs(features[:8] - features[8:]).max() > 0.1


def test_what_cannot_be_grouped_is_refused(model_config, grouped):
    _, eight_groups, params, stats = grouped
    with pytest.raises(ValueError, match="15 images cannot be cut into 8 groups"):
        eight_groups.apply(params, stats, IMAGES[:15], train=True, key=None)
    with pytest.raises(ConfigError, match="batch_norm_groups: got -1"):
        build(model_config(batch_norm_groups=-1))
    with pytest.raises(ConfigError, match=r"batch_norm_groups: got -1, must be >= 0"):
        small("model.batch_norm_groups=-1")


@pytest.mark.parametrize(
    ("groups", "batch", "says"),
    [
        (5, 16, "must be a multiple of 5: optim.accumulation_steps 1 x 5 groups"),
        (0, 8, "must be at least 16: batch norm needs 2 images"),
        (8, 16, None),
        (0, 16, None),
    ],
)
def test_the_batch_must_fit_the_groups(groups, batch, says):
    config = small(f"model.batch_norm_groups={groups}", f"data.batch_size={batch}")
    problems = config_rules.device_problems(config, config_rules.TRAINING_SIZES, 8, 1)
    assert (problems == []) if says is None else (says in problems[0])
