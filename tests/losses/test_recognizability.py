"""Recognizability's kernels: a plain float64 derivation, gradients, their edges."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qface_jax.losses import recognizability as kernels

B, D, C = 24, 16, 7
RTOL = 2e-5
EPSILON = 0.01


def case(seed=0):
    """Raw features, centres, labels and a unit UI centre, float32."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(B, D)) * rng.uniform(0.5, 20.0, size=(B, 1))
    centres = rng.normal(size=(C, D))
    labels = rng.integers(0, C, B)
    centre = rng.normal(size=D)
    centre /= np.linalg.norm(centre)
    return (
        features.astype(np.float32),
        centres.astype(np.float32),
        labels,
        centre.astype(np.float32),
    )


def plain(features, centres, labels, centre):
    """Cosines to the own, the nearest other and the UI centre, and xi; float64."""
    v = np.float64(features) / np.linalg.norm(np.float64(features), axis=1)[:, None]
    w = np.float64(centres) / np.linalg.norm(np.float64(centres), axis=1)[:, None]
    found = []
    for row, label in zip(v, labels, strict=True):
        own = row @ w[label]
        nearest = max((row @ w[j] for j in range(len(w)) if j != label), default=-1.0)
        ui = row @ np.float64(centre)
        index = (1 - ui) * (1 - nearest) / ((1 - own) + EPSILON)
        found.append((own, nearest, ui, index))
    return np.array(found).T


def slope(function, at, direction, step=1e-6):
    """Of a float64 function along a direction."""
    ends = [function(np.float64(at) + sign * step * direction) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def check_gradient(function, at, eps=0.01):
    check_grads(
        lambda x: function(jnp.asarray(x)), (at,), 1, modes=["rev"], rtol=1e-2, eps=eps
    )


def test_distances_and_index_are_those_of_the_formula():
    features, centres, labels, centre = case()
    own, nearest, ui, index = plain(features, centres, labels, centre)
    got = jax.jit(kernels.unrecognizable_cosine)(
        jnp.asarray(features), jnp.asarray(centre)
    )
    np.testing.assert_allclose(got, ui, atol=1e-6)
    target = jax.jit(partial(kernels.ri_target, epsilon=EPSILON))
    cosines = [jnp.asarray(x, jnp.float32) for x in (own, nearest, ui)]
    np.testing.assert_allclose(target(*cosines), index, rtol=RTOL)
    bounded = jax.jit(partial(kernels.ri_target, epsilon=EPSILON, bounded=True))
    np.testing.assert_allclose(bounded(*cosines), index / (1 + index), rtol=RTOL)


def test_cosines_beyond_one_by_rounding_are_no_negative_distances():
    cos = jnp.asarray([1.0 + 1e-6, -1.0 - 1e-6, 0.25])
    np.testing.assert_allclose(kernels.distance(cos), [0, 2, 0.75])


def test_the_index_where_an_embedding_is_a_centre():
    """At the UI centre it is 0; at its own centre it is bounded by epsilon."""
    one, zero = jnp.ones(1), jnp.zeros(1)
    target = partial(kernels.ri_target, epsilon=EPSILON)
    assert target(zero, zero, one)[0] == 0.0
    np.testing.assert_allclose(target(one, zero, zero), 1.0 / EPSILON, rtol=1e-6)
    bounded = partial(target, bounded=True)
    assert bounded(zero, zero, one)[0] == 0.0
    np.testing.assert_allclose(bounded(one, zero, zero), 1 / (1 + EPSILON), rtol=1e-6)
    assert target(zero, one, zero)[0] == 0.0  # at another class's centre
    # One class only: the nearest other is as far as can be.
    np.testing.assert_allclose(target(zero, -one, zero), 2.0 / 1.01, rtol=1e-6)


def test_nothing_learns_from_the_targets():
    features, _, _, centre = map(jnp.asarray, case())

    def total(features, centre):
        cos = kernels.unrecognizable_cosine(features, centre)
        index = kernels.ri_target(cos, cos, cos, epsilon=EPSILON)
        return jnp.sum(index) + jnp.sum(kernels.attention_target(features, centre))

    for grad in jax.jit(jax.grad(total, (0, 1)))(features, centre):
        assert not np.any(grad)


@pytest.mark.parametrize("beta", [0.75, 1.0, 1e-3])
def test_smooth_l1(beta):
    rng = np.random.default_rng(1)
    predicted, target = rng.normal(size=(2, 64)) * 2
    predicted[:2] = target[0] = target[1] = 0.5
    predicted[1] += beta  # where it turns
    e = np.abs(np.float32(predicted) - np.float32(target)).astype(np.float64)
    want = np.where(e < beta, e**2 / (2 * beta), e - beta / 2)
    loss = partial(kernels.smooth_l1, beta=beta)
    arrays = [jnp.asarray(x, jnp.float32) for x in (predicted, target)]
    np.testing.assert_allclose(jax.jit(loss)(*arrays), want, rtol=1e-4, atol=1e-6)
    grads = jax.jit(jax.grad(lambda *a: jnp.sum(loss(*a)), (0, 1)))(*arrays)
    difference = np.float32(predicted) - np.float32(target)
    want = np.clip(difference / beta, -1, 1)
    np.testing.assert_allclose(grads[0], want, rtol=1e-4, atol=1e-4)
    assert grads[0][0] == 0.0 and not np.any(grads[1])
    away = jnp.asarray(target + np.where(difference > 0, 2.0, -2.0), jnp.float32)
    check_gradient(lambda x: loss(x, arrays[1]), away)


def test_smooth_l1_is_torchs():
    """The definition in PyTorch's documentation, at numbers worked out by hand."""
    loss = kernels.smooth_l1(
        jnp.asarray([0.0, 0.3, -0.3, 0.75, 2.0]), jnp.zeros(5), beta=0.75
    )
    np.testing.assert_allclose(loss, [0, 0.06, 0.06, 0.375, 1.625], rtol=1e-6)


def test_index_diversion():
    rng = np.random.default_rng(2)
    predicted = jnp.asarray(rng.normal(size=B), jnp.float32)
    mean, std = jnp.float32(0.25), jnp.float32(0.5)
    loss = partial(kernels.index_diversion, threshold=3.0)
    want = np.maximum(0, 3.0 - (np.float64(predicted) - 0.25) / 0.5)
    np.testing.assert_allclose(jax.jit(loss)(predicted, mean, std), want, rtol=RTOL)
    total = jax.jit(jax.grad(lambda *a: jnp.sum(loss(*a)), (0, 1, 2)))
    to_predicted, *rest = total(predicted, mean, std)
    np.testing.assert_allclose(to_predicted, np.where(want > 0, -2.0, 0.0))
    assert not np.any(rest[0]) and not np.any(rest[1])
    away = predicted[np.abs(want) > 0.1]
    check_gradient(lambda x: loss(x, mean, std), away)


def test_index_diversion_without_a_deviation():
    """All unrecognizable images alike: finite, and steep."""
    loss = jax.value_and_grad(
        lambda x: jnp.sum(
            kernels.index_diversion(x, jnp.float32(1), jnp.float32(0), threshold=3.0)
        )
    )
    value, grad = jax.jit(loss)(jnp.asarray([1.0, 2.0, 0.5]))
    assert np.isfinite(value) and np.all(np.isfinite(grad)) and grad[1] == 0.0


def test_attention_target_is_the_part_off_the_ui_centre():
    features, _, _, centre = case()
    got = jax.jit(kernels.attention_target)(jnp.asarray(features), jnp.asarray(centre))
    v = np.float64(features) / np.linalg.norm(np.float64(features), axis=1)[:, None]
    u = np.float64(centre)
    off = v - (v @ u)[:, None] * u
    want = off / np.linalg.norm(off, axis=1)[:, None]
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(got @ jnp.asarray(centre), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1.0, rtol=1e-5)


def test_attention_target_of_the_ui_centre_itself_and_of_no_feature():
    _, _, _, centre = case()
    rows = jnp.asarray(np.stack([3 * centre, -2 * centre, 0 * centre]))
    target = jax.jit(kernels.attention_target)(rows, jnp.asarray(centre))
    assert not np.any(target)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_attention_loss(reduction):
    rng = np.random.default_rng(3)
    projection, target = (
        jnp.asarray(rng.normal(size=(B, D)), jnp.float32) for _ in range(2)
    )
    squares = (np.float64(projection) - np.float64(target)) ** 2
    want = squares.mean(1) if reduction == "mean" else squares.sum(1)
    loss = partial(kernels.attention_loss, reduction=reduction)
    np.testing.assert_allclose(jax.jit(loss)(projection, target), want, rtol=RTOL)
    check_gradient(lambda p: loss(p, target), projection, eps=0.1)
    grad = jax.grad(lambda t: jnp.sum(loss(projection, t)))(target)
    assert not np.any(grad)


def test_unknown_reduction_is_named():
    with pytest.raises(ValueError, match="reduction: got 'max', must be one of mean"):
        kernels.attention_loss(jnp.ones((1, 2)), jnp.ones((1, 2)), reduction="max")


def test_the_gradient_of_the_cosine():
    """Of the UI cosine and ERS, against differences of the float64 formula."""
    features, _, _, centre = case(4)
    rng = np.random.default_rng(5)
    direction = rng.normal(size=features.shape)

    def cosine(x):
        v = x / np.linalg.norm(x, axis=1)[:, None]
        return v @ np.float64(centre)

    run = jax.jit(jax.grad(lambda f, c: jnp.sum(kernels.unrecognizable_cosine(f, c))))
    got = np.float64(run(jnp.asarray(features), jnp.asarray(centre)))
    want = slope(lambda x: cosine(x).sum(), features, direction)
    np.testing.assert_allclose(np.sum(got * direction), want, rtol=1e-3)


def test_a_zero_feature_is_finite():
    zeros, centre = jnp.zeros((2, D)), jnp.asarray(case()[3])
    value, grad = jax.jit(
        jax.value_and_grad(lambda f: jnp.sum(kernels.unrecognizable_cosine(f, centre)))
    )(zeros)
    assert value == 0.0 and np.all(np.isfinite(grad))
