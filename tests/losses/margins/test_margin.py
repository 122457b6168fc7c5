"""The margins against float64 derivations, their limits and their edges."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qface_jax.losses import margin, norm_stats
from qface_jax.losses.margins.margin import build_margin, logits
from qface_jax.tables import MARGINS

B, C = 12, 9
QUALITY = jnp.linspace(-1.0, 1.0, B)
NORMS = jnp.linspace(5.0, 120.0, B)
T = jnp.float32(0.3)

KERNELS = {
    "softmax": margin.softmax_logits,
    "sphereface": margin.sphereface_logits,
    "cosface": margin.cosface_logits,
    "arcface": margin.arcface_logits,
    "arcface_threshold": partial(margin.arcface_logits, threshold=True),
    "curricularface": lambda cos, target, **kw: margin.curricularface_logits(
        cos, target, T.astype(cos.dtype), **kw
    ),
    "magface": lambda cos, target, **kw: margin.magface_logits(
        cos, target, NORMS.astype(cos.dtype), **kw
    ),
    "adaface": lambda cos, target, **kw: margin.adaface_logits(
        cos, target, QUALITY.astype(cos.dtype), **kw
    ),
    "combined": partial(margin.combined_logits, m1=0.9, m2=0.4, m3=0.15),
}


def plain(name, theta, row):
    """f(theta) of one target cosine, in float64, straight from the papers' table."""
    if name == "softmax":
        return np.cos(theta)
    if name == "sphereface":
        k = np.floor(1.7 * theta / np.pi)
        return (-1) ** k * np.cos(1.7 * theta) - 2 * k
    if name == "cosface":
        return np.cos(theta) - 0.35
    if name == "arcface":
        return np.cos(theta + 0.5)
    if name in ("arcface_threshold", "curricularface"):
        past = theta + 0.5 > np.pi
        return np.cos(theta) - 0.5 * np.sin(0.5) if past else np.cos(theta + 0.5)
    if name == "magface":
        a = np.clip(float(NORMS[row]), 10, 110)
        m = 0.45 + (0.8 - 0.45) * (a - 10) / 100
        return np.cos(theta + m) if np.cos(theta) > 0 else np.cos(theta)
    if name == "adaface":
        q = float(QUALITY[row])
        shifted = np.clip(theta - 0.4 * q, 1e-3, np.pi - 1e-3)
        return np.cos(shifted) - (0.4 * q + 0.4)
    return np.cos(0.9 * theta + 0.4) - 0.15


def batch(seed=0):
    rng = np.random.default_rng(seed)
    cos = rng.uniform(-0.95, 0.95, (B, C))
    labels = rng.integers(0, C, B)
    return cos, labels, labels[:, None] == np.arange(C)


@pytest.mark.parametrize("name", KERNELS)
def test_against_float64(name):
    cos, labels, target = batch()
    want = cos.copy()
    own = np.arccos(cos[np.arange(B), labels])
    if name == "curricularface":
        hard = cos > np.cos(own + 0.5)[:, None]
        want = np.where(hard, cos * (float(T) + cos), cos)
    for row, theta in enumerate(own):
        want[row, labels[row]] = plain(name, theta, row)
    for kernel in (KERNELS[name], jax.jit(KERNELS[name])):
        got = kernel(jnp.asarray(cos, jnp.float32), jnp.asarray(target))
        np.testing.assert_allclose(got, 64 * want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_are_the_true_ones(name):
    cos, _, target = batch(1)
    kernel = jax.jit(partial(KERNELS[name], scale=1.0))
    with jax.enable_x64(True):
        check_grads(
            lambda c: kernel(jnp.asarray(c), jnp.asarray(target)),
            (jnp.asarray(cos, jnp.float64),),
            order=1,
            modes=("fwd", "rev"),
            rtol=1e-4,
            atol=1e-4,
        )


def test_magface_gradient_reaches_the_norm():
    cos = jnp.full((1, 2), 0.5)
    target = jnp.array([[True, False]])
    grad = jax.grad(
        lambda norms: margin.magface_logits(cos, target, norms, scale=1.0)[0, 0]
    )
    slope = jax.jit(grad)(jnp.array([50.0]))
    m = 0.45 + 0.35 * 40 / 100
    want = -np.sin(np.arccos(0.5) + m) * 0.35 / 100
    np.testing.assert_allclose(slope, [want], rtol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_finite_at_the_ends(name):
    target = jnp.arange(B)[:, None] % C == jnp.arange(C)[None, :]
    grad = jax.jit(jax.value_and_grad(lambda cos: jnp.sum(KERNELS[name](cos, target))))
    for edge in (-1.0, 1.0, -1.0 - 1e-6, 1.0 + 1e-6):
        value, slope = grad(jnp.full((B, C), edge, jnp.float32))
        assert jnp.isfinite(value) and jnp.all(jnp.isfinite(slope))


@pytest.mark.parametrize(
    ("name", "zero"),
    [
        ("sphereface", {"margin": 1.0}),
        ("cosface", {"margin": 0.0}),
        ("arcface", {"margin": 0.0}),
        ("magface", {"l_margin": 0.0, "u_margin": 0.0}),
        ("adaface", {"margin": 0.0}),
        ("combined", {"m1": 1.0, "m2": 0.0, "m3": 0.0}),
    ],
)
def test_without_margin_it_is_softmax(name, zero):
    cos, _, target = batch(2)
    cos, target = jnp.asarray(cos, jnp.float32), jnp.asarray(target)
    np.testing.assert_allclose(
        KERNELS[name](cos, target, **zero),
        margin.softmax_logits(cos, target),
        atol=3e-5,
    )


@pytest.mark.parametrize(
    ("quality", "other"),
    [
        (0.0, partial(margin.cosface_logits, margin=0.4)),
        (-1.0, partial(margin.arcface_logits, margin=0.4)),
    ],
)
def test_adaface_contains_cosface_and_arcface(quality, other):
    cos, _, target = batch(3)
    cos = jnp.asarray(np.clip(cos, -0.9, 0.9), jnp.float32)
    target = jnp.asarray(target)
    got = margin.adaface_logits(cos, target, jnp.full((B,), quality))
    np.testing.assert_allclose(got, other(cos, target), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_a_row_without_target_keeps_its_cosines(name):
    cos = jnp.linspace(-0.9, 0.6, B * C).reshape(B, C)
    got = KERNELS[name](cos, jnp.zeros((B, C), bool))
    if name == "curricularface":
        # No own cosine: it counts as 0, so cos > cos(pi/2 + m) is hard.
        cos = jnp.where(cos > np.cos(np.pi / 2 + 0.5), cos * (T + cos), cos)
    np.testing.assert_allclose(got, 64.0 * cos, rtol=1e-6)


def test_the_filter_removes_similar_negatives_only():
    cos = jnp.array([[0.9, 0.5, 0.1]])
    target = jnp.array([[True, False, False]])
    got = margin.combined_logits(
        cos, target, scale=1.0, m3=0.0, m2=0.0, filter_threshold=0.3
    )
    np.testing.assert_allclose(got, [[0.9, 0.0, 0.1]], atol=1e-6)


@pytest.mark.parametrize("name", MARGINS)
def test_the_trained_margin_has_the_public_logits(name):
    """The entry with its defaults, state and norms, and the function of that name."""
    trained = build_margin(name)
    cos, labels, target = batch(4)
    cos, target = jnp.asarray(cos, jnp.float32), jnp.asarray(target)
    cos_y = cos[np.arange(B), labels]
    state = trained.update(trained.init(), cos_y, NORMS, jnp.ones(B, bool))
    arguments = {"curricularface": [state], "magface": [NORMS]}
    if name == "adaface":
        arguments[name] = [norm_stats.norm_hat(state, NORMS)]
    public = getattr(margin, f"{name}_logits")
    np.testing.assert_allclose(
        logits(trained, cos, target, NORMS, state, scale=64.0),
        public(cos, target, *arguments.get(name, [])),
        rtol=1e-6,
        atol=1e-5,
    )


def test_rules_between_options():
    problems = MARGINS["magface"].problems
    assert problems({"l_a": 10.0, "u_a": 10.0}) == ["u_a: got 10.0, must be > l_a 10.0"]
    assert problems({"l_a": 10.0, "u_a": 11.0}) == []
