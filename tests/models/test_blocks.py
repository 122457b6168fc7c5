"""Batch norm and PReLU against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numpy.testing import assert_allclose

from qface_jax.models.blocks import BatchNorm, PReLU, batch_moments

X = np.random.default_rng(0).normal(3.0, 2.0, (6, 2, 2, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def norm():
    module = BatchNorm()
    params = {"scale": jnp.linspace(0.5, 1.5, 5), "bias": jnp.linspace(-1.0, 1.0, 5)}
    stats = {"mean": jnp.full(5, 0.5), "var": jnp.full(5, 2.0)}
    return module, {"params": params, "batch_stats": stats}


def normalised(x, mean, var, variables):
    params = jax.tree.map(np.float64, variables["params"])
    return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]


def test_training_uses_the_batch_and_moves_the_running_statistics(norm):
    module, variables = norm
    y, new = module.apply(variables, X, True, mutable=["batch_stats"])
    x = X.astype(np.float64)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    assert_allclose(y, normalised(x, mean, var, variables), rtol=1e-5, atol=1e-5)
    assert_allclose(new["batch_stats"]["mean"], 0.9 * 0.5 + 0.1 * mean, rtol=1e-6)
    # PyTorch's rule: the running variance averages the unbiased one, here 24 / 23.
    expected = 0.9 * 2.0 + 0.1 * var * 24 / 23
    assert_allclose(new["batch_stats"]["var"], expected, rtol=1e-6)


def test_evaluation_uses_the_running_statistics(norm):
    module, variables = norm
    y = module.apply(variables, X, False)
    expected = normalised(X.astype(np.float64), 0.5, 2.0, variables)
    assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_gradient_of_batch_norm(norm):
    module, variables = norm

    weights = jnp.linspace(-1.0, 1.0, X.size).reshape(X.shape)

    def f(x):
        y, _ = module.apply(variables, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(y) * weights)

    check_grads(f, (jnp.asarray(X),), order=1, modes=["rev"], rtol=2e-2)


@pytest.mark.parametrize("near", [9_990.0, 10_003.0, 10_030.0])
def test_moments_survive_a_large_mean(near):
    """E[x^2] - E[x]^2 would lose all digits of this variance in float32."""
    mean, var = batch_moments(jnp.asarray(X) + 10_000.0, jnp.full(5, near))
    shifted = (X + np.float32(10_000)).astype(np.float64)
    assert_allclose(mean, shifted.mean((0, 1, 2)), rtol=1e-6)
    assert_allclose(var, shifted.var((0, 1, 2)), rtol=1e-3)


def test_moments_of_features_need_nothing_near():
    rows = np.float32([[100.0, -3.0], [100.01, -3.0]])
    mean, var = batch_moments(jnp.asarray(rows), jnp.zeros(2))
    exact = rows.astype(np.float64)
    assert_allclose(mean, exact.mean(0), rtol=1e-6)
    assert_allclose(var, exact.var(0), rtol=1e-3)


def test_the_variance_is_right_again_when_the_running_mean_has_come_near(norm):
    """A fresh network knows no mean: it learns it, and its variance with it."""
    module, variables = norm
    x = jnp.asarray(X) + 10_000.0
    for _ in range(100):
        y, new = module.apply(variables, x, True, mutable=["batch_stats"])
        assert np.isfinite(y).all()
        variables = {**variables, **new}
    exact = np.asarray(x, np.float64)
    expected = normalised(exact, exact.mean((0, 1, 2)), exact.var((0, 1, 2)), variables)
    assert_allclose(y, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("near", [0.0, 3.0, -20.0])
def test_gradient_of_the_moments_is_that_of_the_plain_formula(near):
    def plain(x):
        mean = x.mean((0, 1, 2), keepdims=True)
        return mean[0, 0, 0], jnp.square(x - mean).mean((0, 1, 2))

    def ours(x):
        return batch_moments(x, jnp.full(5, near, jnp.float32))

    weights = (jnp.linspace(-1.0, 1.0, 5), jnp.linspace(2.0, 0.5, 5))
    _, pull_back = jax.vjp(ours, jnp.asarray(X))
    _, plain_pull_back = jax.vjp(plain, jnp.asarray(X))
    (gradient,), (expected,) = pull_back(weights), plain_pull_back(weights)
    assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_moments_do_not_move_what_they_are_taken_about():
    gradient = jax.grad(lambda near: sum(map(jnp.sum, batch_moments(X, near))))(
        jnp.zeros(5)
    )
    assert_allclose(gradient, np.zeros(5))


def test_batch_norm_of_bfloat16_computes_in_float32(norm):
    _, variables = norm
    x = jnp.asarray(X).astype(jnp.bfloat16)
    y, new = BatchNorm(dtype=jnp.bfloat16).apply(
        variables, x, True, mutable=["batch_stats"]
    )
    assert y.dtype == jnp.bfloat16
    assert new["batch_stats"]["var"].dtype == jnp.float32
    mean = np.asarray(x, np.float64).mean((0, 1, 2))
    assert_allclose(new["batch_stats"]["mean"], 0.9 * 0.5 + 0.1 * mean, rtol=1e-6)


def test_batch_norm_of_one_value_is_finite(norm):
    module, variables = norm
    y, new = module.apply(variables, X[:1, 0, 0], True, mutable=["batch_stats"])
    assert np.isfinite(y).all()
    assert np.isfinite(new["batch_stats"]["var"]).all()


def test_prelu_values_and_gradients():
    x = jnp.array([[-2.0, 3.0], [0.0, -1.0]])
    variables = PReLU().init(jax.random.key(0), x)
    assert_allclose(variables["params"]["negative_slope"], [0.25, 0.25])
    assert_allclose(PReLU().apply(variables, x), [[-0.5, 3.0], [0.0, -0.25]])
    slope, inputs = jax.grad(lambda v, x: PReLU().apply(v, x).sum(), argnums=(0, 1))(
        variables, x
    )
    assert_allclose(slope["params"]["negative_slope"], [-2.0, -1.0])
    assert_allclose(inputs, [[0.25, 1.0], [1.0, 0.25]])


def test_prelu_of_bfloat16_sums_its_gradient_in_float32():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4096, 2)), jnp.bfloat16)
    variables = PReLU().init(jax.random.key(0), x)
    assert PReLU().apply(variables, x).dtype == jnp.bfloat16
    slope = jax.grad(lambda v: PReLU().apply(v, x).astype(jnp.float32).sum())(variables)
    expected = np.minimum(np.asarray(x, np.float64), 0).sum(0)
    assert_allclose(slope["params"]["negative_slope"], expected, rtol=1e-5)
