"""What init and apply promise, on the smallest backbones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

from support.backbones import IMAGES, built, forward, gradient, initial
from support.closeness import additions, assert_close_as_sums, assert_trees_close


def cosine(a, b):
    return np.einsum("bd,bd->b", a, b) / (
        np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    )


@pytest.fixture(scope="module")
def dropping():
    return built(dropout=0.5)


def test_evaluation_leaves_the_statistics_and_needs_no_key(tiny):
    model, params, stats = tiny
    features, new = forward(model, train=False)(params, stats, IMAGES, None)
    jax.tree.map(assert_array_equal, new, stats)
    alone, _ = forward(model, train=False)(params, stats, IMAGES[:1], None)
    # An image's features do not depend on the images beside it.
    assert_close_as_sums(alone, features[:1], terms=additions(params))


def test_training_normalises_by_the_batch_and_updates_the_statistics(tiny):
    model, params, stats = tiny
    features, new = forward(model, train=True)(params, stats, IMAGES, None)
    assert_allclose(features.mean(0), np.zeros(16), atol=1e-5)
    assert_allclose(features.std(0), np.ones(16), atol=1e-2)
    for old, updated in zip(jax.tree.leaves(stats), jax.tree.leaves(new), strict=True):
        assert old.shape == updated.shape
        assert np.abs(old - updated).max() > 0


def test_running_statistics_make_evaluation_agree_with_training(tiny):
    model, params, stats = tiny
    train = forward(model, train=True)
    for _ in range(120):
        features, stats = train(params, stats, IMAGES, None)
    evaluated, _ = forward(model, train=False)(params, stats, IMAGES, None)
    # Not equal: the running variance is the unbiased one.
    assert cosine(evaluated, features).min() > 0.999
    lengths = np.linalg.norm(evaluated, axis=1) / np.linalg.norm(features, axis=1)
    assert_allclose(lengths, np.sqrt(15 / 16), rtol=0.02)


def test_gradients_are_finite_and_reach_every_parameter(tiny):
    model, params, stats = tiny
    grads = gradient(model)(params, stats, IMAGES, None)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), name
        # A batch norm later on takes out what these biases add.
        if not name.endswith("['bias']"):
            assert np.abs(leaf).max() > 1e-6, name


def test_remat_changes_no_gradient(tiny):
    model, params, stats = tiny
    again = built(remat=True)
    shapes, _ = jax.eval_shape(again.init, jax.random.key(0))
    assert jax.tree.structure(shapes) == jax.tree.structure(params)
    expected = gradient(model)(params, stats, IMAGES, None)
    assert_trees_close(gradient(again)(params, stats, IMAGES, None), expected, 1e-6)
    assert "remat" in str(jax.make_jaxpr(gradient(again))(params, stats, IMAGES, None))
    assert "remat" not in str(
        jax.make_jaxpr(gradient(model))(params, stats, IMAGES, None)
    )


def test_bfloat16_is_close_to_float32(tiny):
    model, params, stats = tiny
    half = built(dtype="bfloat16")
    expected, _ = forward(model, train=True)(params, stats, IMAGES, None)
    got, new = forward(half, train=True)(params, stats, IMAGES, None)
    assert got.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))
    assert cosine(got, expected).min() > 0.99
    assert np.abs(got - expected).max() > 1e-4, "bfloat16 was not used"


def test_dropout_only_in_training_and_by_the_key(tiny, dropping):
    plain, params, stats = tiny
    train = forward(dropping, train=True)
    keys = jax.random.split(jax.random.key(0), 2)
    first, _ = train(params, stats, IMAGES, keys[0])
    again, _ = train(params, stats, IMAGES, keys[0])
    other, _ = train(params, stats, IMAGES, keys[1])
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    evaluated, _ = forward(dropping, train=False)(params, stats, IMAGES, None)
    expected, _ = forward(plain, train=False)(params, stats, IMAGES, None)
    assert_array_equal(evaluated, expected)


def test_batch_over_eight_devices_is_one_batch(tiny, dropping):
    """Statistics, gradients and dropout are those of the global batch."""
    model, (_, params, stats) = dropping, tiny
    key = jax.random.key(3)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    everywhere, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    sharded = (
        *jax.device_put((params, stats), everywhere),
        jax.device_put(IMAGES, spread),
        jax.device_put(key, everywhere),
    )
    features, new = forward(model, train=True)(params, stats, IMAGES, key)
    wide, new_wide = forward(model, train=True)(*sharded)
    assert len(wide.sharding.device_set) == 8
    assert_close_as_sums(wide, features, terms=additions(params))
    assert_trees_close(new_wide, new, 1e-5)
    grads = gradient(model)(params, stats, IMAGES, key)
    assert_trees_close(gradient(model)(*sharded), grads, 1e-5)


def test_the_step_compiles_once(tiny):
    model, params, stats = tiny
    train = jax.jit(functools.partial(model.apply, train=True))
    for index in range(3):
        _, stats = train(params, stats, IMAGES, key=jax.random.key(index))
    assert train._cache_size() == 1


@pytest.mark.parametrize("backbone", ["mini", "iresnet18"])
def test_larger_backbones_run(backbone):
    model = built(backbone=backbone)
    shapes, stats = jax.eval_shape(model.init, jax.random.key(0))
    draw = np.random.default_rng(0).standard_normal

    def value(leaf):
        if leaf.ndim == 1:
            return np.ones(leaf.shape, np.float32)
        deviation = np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return deviation * draw(leaf.shape, np.float32)

    params = jax.tree.map(value, shapes)
    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), stats)
    features, _ = forward(model, train=False)(params, stats, IMAGES[:2], None)
    assert features.shape == (2, 16)
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_init_is_a_function_of_the_key(tiny):
    init = initial(tiny[0])
    one, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(assert_array_equal, one, again)
    first, second = one[0]["conv1"]["kernel"], other[0]["conv1"]["kernel"]
    assert np.abs(first - second).max() > 1e-3
