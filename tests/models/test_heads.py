"""The heads against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from qface_jax.models import heads

FEATURES = np.random.default_rng(0).normal(size=(5, 12)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def attended(params, maps, kernel_side):
    """Projection and attention in float64, pixel by pixel."""
    p, x = jax.tree.map(np.float64, (params, maps))
    squeeze, expand = p["channel"]["squeeze"], p["channel"]["expand"]

    def perceptron(vector):
        hidden = np.maximum(vector @ squeeze["kernel"] + squeeze["bias"], 0)
        return hidden @ expand["kernel"] + expand["bias"]

    weights = sigmoid(perceptron(x.mean((1, 2))) + perceptron(x.max((1, 2))))
    x = x * weights[:, None, None, :]
    b, h, w, _ = x.shape
    reach = kernel_side // 2
    pooled = np.pad(
        np.stack([x.mean(-1), x.max(-1)], -1),
        ((0, 0), (reach, reach), (reach, reach), (0, 0)),
    )
    attention = np.zeros((b, h, w))
    for row in range(h):
        for column in range(w):
            window = pooled[:, row : row + kernel_side, column : column + kernel_side]
            products = window * p["spatial"]["kernel"][None, ..., 0]
            attention[:, row, column] = sigmoid(products.sum((1, 2, 3)))
    mean = (x * attention[..., None]).mean((1, 2))
    project = p["projection"]
    return mean @ project["kernel"] + project["bias"], attention


@pytest.mark.parametrize(
    ("shape", "reduction", "kernel_side"),
    [
        ((4, 5, 8), 2, 3),
        ((7, 7, 12), 16, 7),
        ((3, 3, 1), 4, 3),  # one channel
        ((1, 1, 6), 2, 7),  # one pixel, the kernel reaches beyond on all sides
    ],
)
def test_the_attention(shape, reduction, kernel_side):
    head = heads.perceptibility_attention(
        shape, 5, reduction=reduction, kernel_side=kernel_side
    )
    params = jax.jit(head.init)(jax.random.key(0))
    hidden = max(shape[-1] // reduction, 1)
    assert jax.tree.map(np.shape, params) == {
        "channel": {
            "squeeze": {"kernel": (shape[-1], hidden), "bias": (hidden,)},
            "expand": {"kernel": (hidden, shape[-1]), "bias": (shape[-1],)},
        },
        "spatial": {"kernel": (kernel_side, kernel_side, 2, 1)},
        "projection": {"kernel": (shape[-1], 5), "bias": (5,)},
    }
    maps = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    projection, attention = jax.jit(head.apply)(params, maps)
    expected = attended(params, maps, kernel_side)
    assert_allclose(projection, expected[0], rtol=1e-5, atol=1e-6)
    assert_allclose(attention, expected[1], rtol=1e-5, atol=1e-6)
    assert attention.dtype == projection.dtype == jnp.float32

    def total(projection, attention):
        return np.sin(projection).sum() + np.cos(attention).sum()

    @jax.jit
    def gradient(inputs):
        def value(inputs):
            projection, attention = head.apply(*inputs)
            return jnp.sum(jnp.sin(projection)) + jnp.sum(jnp.cos(attention))

        return jax.grad(value)(inputs)

    # Along one direction, against differences of the derivation in float64.
    inputs = jax.tree.map(np.asarray, (params, maps))
    draw = np.random.default_rng(5).normal
    direction = jax.tree.map(lambda leaf: draw(size=leaf.shape), inputs)
    step = 1e-6

    def moved(sign):
        there = jax.tree.map(lambda x, v: x + sign * step * v, inputs, direction)
        return total(*attended(*there, kernel_side))

    gradients = jax.tree.map(np.float64, gradient(inputs))
    products = jax.tree.map(lambda g, v: np.sum(g * v), gradients, direction)
    got = sum(jax.tree.leaves(products))
    assert_allclose(got, (moved(1) - moved(-1)) / (2 * step), rtol=1e-4)


def test_the_attention_of_one_map_does_not_depend_on_the_others():
    head = heads.perceptibility_attention((4, 4, 8), 3)
    params = jax.jit(head.init)(jax.random.key(0))
    maps = np.random.default_rng(2).normal(size=(4, 4, 4, 8)).astype(np.float32)
    run = jax.jit(head.apply)
    together, alone = run(params, maps), run(params, maps[2:3])
    for whole, one in zip(together, alone, strict=True):
        assert_allclose(whole[2:3], one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "length", "changes", "says"),
    [
        ((4, 4, 8), 3, {"kernel_side": 4}, "kernel_side: got 4, expected an odd"),
        ((4, 4, 8), 3, {"kernel_side": -1}, "kernel_side: got -1"),
        ((4, 0, 8), 3, {}, r"map_shape \(4, 0, 8\).* at least 1"),
        ((4, 4, 8), 3, {"reduction": 0}, "reduction 0"),
    ],
)
def test_sizes_that_make_no_attention(shape, length, changes, says):
    with pytest.raises(ValueError, match=says):
        heads.perceptibility_attention(shape, length, **changes)


def test_a_map_of_another_size_is_refused():
    head = heads.perceptibility_attention((4, 4, 8), 3)
    params = jax.eval_shape(head.init, jax.random.key(0))
    other = jax.ShapeDtypeStruct((2, 5, 4, 8), jnp.float32)
    with pytest.raises(ValueError, match=r"\[2, 5, 4, 8\], expected \[b, 4, 4, 8\]"):
        jax.eval_shape(head.apply, params, other)


def test_the_regression():
    head = heads.perceptibility_regression(12, dropout=0.9)
    params = jax.jit(head.init)(jax.random.key(0))
    assert jax.tree.map(np.shape, params) == {"kernel": (12, 1), "bias": (1,)}
    expected = np.float64(FEATURES) @ np.float64(params["kernel"])[:, 0]
    predicted = jax.jit(head.apply)(params, FEATURES)
    assert_allclose(
        predicted, expected + np.float64(params["bias"]), rtol=1e-5, atol=1e-6
    )
    key = jax.random.key(3)
    for dropout_key in (None, key):

        @jax.jit
        def total(params, features, dropout_key=dropout_key):
            return jnp.sum(jnp.sin(head.apply(params, features, key=dropout_key)))

        check_grads(
            total, (params, FEATURES), order=1, modes=["rev"], rtol=2e-2, atol=2e-2
        )


def test_the_dropout_keeps_the_mean_and_one_number_in_ten():
    head = heads.perceptibility_regression(1000, dropout=0.9)
    ones = np.ones((200, 1000), np.float32)
    params = {"kernel": np.ones((1000, 1), np.float32), "bias": np.zeros(1, np.float32)}
    run = jax.jit(lambda key: head.apply(params, ones, key=key))
    sums = run(jax.random.key(0))
    # Each is ten times a binomial count of 1000 at 0.1: mean 1000, deviation 95.
    assert_allclose(sums.mean(), 1000, atol=4 * 95 / np.sqrt(200))
    assert_allclose(sums.std(), 95, rtol=0.2)
    assert_allclose(sums / 10, np.round(sums / 10), atol=1e-3)
    assert_array_equal(run(jax.random.key(0)), sums)
    assert np.abs(run(jax.random.key(1)) - sums).max() > 10
    none = heads.perceptibility_regression(1000, dropout=0.0)
    kept = none.apply(params, ones, key=jax.random.key(0))
    assert_allclose(kept, np.full(200, 1000), rtol=1e-6)


def test_the_initial_values_are_those_of_torch():
    key = jax.random.key(0)
    params = jax.jit(heads.perceptibility_regression(400, dropout=0.0).init)(key)
    assert 0.048 < np.abs(params["kernel"]).max() <= 0.05
    assert np.abs(params["bias"]).max() <= 0.05
    head = heads.perceptibility_attention((2, 2, 100), 64, kernel_side=7)
    params = jax.jit(head.init)(key)
    assert 0.098 < np.abs(params["projection"]["kernel"]).max() <= 0.1
    assert 0.09 < np.abs(params["spatial"]["kernel"]).max() <= 98**-0.5
