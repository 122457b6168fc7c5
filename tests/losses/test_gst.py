"""The gradient scaling term against its closed forms (AdaFace eq. 9-15)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses import gst, margin

COS = jnp.asarray(np.random.default_rng(0).uniform(-0.4, 0.4, (10, 6)), jnp.float32)
LABELS = np.arange(10) % 6
TARGET = jnp.asarray(LABELS[:, None] == np.arange(6))
OWN = COS[np.arange(10), LABELS]


def closed_form(logits, slope):
    probability = jax.nn.softmax(logits, axis=1)[np.arange(10), LABELS]
    return (probability - 1.0) * slope


@pytest.mark.parametrize("scale", [4.0, 64.0])
@pytest.mark.parametrize("jit", [False, True])
def test_softmax_and_cosface(scale, jit):
    for kernel in (margin.softmax_logits, margin.cosface_logits):
        fn = partial(kernel, scale=scale)
        term = partial(gst.gradient_scaling_term, fn)
        got = (jax.jit(term) if jit else term)(COS, TARGET)
        want = closed_form(fn(COS, TARGET), scale)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4 * scale / 64)


def test_arcface():
    fn = partial(margin.arcface_logits, scale=8.0, margin=0.5)
    slope = 8.0 * (np.cos(0.5) + OWN * np.sin(0.5) / jnp.sqrt(1.0 - OWN**2))
    np.testing.assert_allclose(
        gst.gradient_scaling_term(fn, COS, TARGET),
        closed_form(fn(COS, TARGET), slope),
        rtol=1e-5,
    )


def test_it_is_the_gradient_of_the_cross_entropy():
    quality = jnp.linspace(-1.0, 1.0, 10)

    def fn(cos, target):
        return margin.adaface_logits(cos, target, quality, scale=8.0)

    def loss(cos):
        logits = fn(cos, TARGET)
        own = jnp.sum(jnp.where(TARGET, logits, 0.0), axis=1)
        return jnp.sum(jax.nn.logsumexp(logits, axis=1) - own)

    want = jax.grad(loss)(COS)[np.arange(10), LABELS]
    got = gst.gradient_scaling_term(fn, COS, TARGET)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_two_class_cosines():
    cos, target = gst.two_class_cosines(jnp.array([0.0, 1.0]), 2.0)
    np.testing.assert_allclose(cos, [[1, np.cos(2)], [np.cos(1)] * 2], rtol=1e-6)
    np.testing.assert_array_equal(target, [[True, False]] * 2)
