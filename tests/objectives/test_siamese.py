"""The siamese objective: its formula in float64, its edges, any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import objectives
from qface_jax.losses.distance import paired
from qface_jax.losses.vectors import unit
from qface_jax.sharded import parallel
from qface_jax.sharded.classifier import CENTRES
from support import small_step
from support.closeness import assert_close_in_norm
from support.small_run import small

CLASSES, DIM, B = 24, 16, 32
MARGIN, SCALE, WEIGHT = 0.5, 64.0, 3.0


def config_of(*words):
    return small("objective=siamese", "degrade.recipe=resolution",
                 "loss.margin=arcface", "classifier.pad_to=8", f"data.batch_size={B}",
                 f"siamese.distance_weight={WEIGHT}", *words)  # fmt: skip


def case():
    """Features [b, 2, d] and labels [b], two rows of which do not count."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(B, 2, DIM)).astype(np.float32)
    labels = rng.integers(0, CLASSES, B).astype(np.int32)
    labels[[0, 9]] = -1
    return features, labels


def loss_of(config, features, labels, devices=1):
    """Loss, gradient to the features, metrics and class centres."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    objective = objectives.build(config, CLASSES, mesh)
    head, state = jax.jit(objective.init)(jax.random.key(3))

    def total(features):
        value, outcome = small_step.loss_of(objective, features, head, labels, state)
        return value, outcome.metrics

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    (value, metrics), grad = run(jnp.asarray(features))
    centres = np.asarray(head[CENTRES])[:CLASSES]
    return float(value), np.asarray(grad), jax.device_get(metrics), centres


def cosine_distance(one, other):
    """As the objective has it, of raw features."""
    return paired(unit(one), unit(other), metric="cosine")


def unit64(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_hand(features, labels, centres, weight=WEIGHT):
    """The loss in float64."""
    counted = labels >= 0
    z = unit64(features[counted])
    cos = np.einsum("bvd,cd->bvc", z, unit64(centres))
    own = np.arange(CLASSES) == labels[counted][:, None, None]
    angle = np.arccos(np.clip(np.sum(np.where(own, cos, 0), -1), -1, 1))
    logits = SCALE * np.where(own, np.cos(angle + MARGIN)[..., None], cos)
    top = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    classified = np.mean(log_sum - np.sum(np.where(own, logits, 0), -1))
    apart = np.mean(1 - np.sum(z[:, 0] * z[:, 1], -1))
    return classified + weight * apart, classified, apart


def test_it_is_the_written_out_formula():
    features, labels = case()
    value, _, metrics, centres = loss_of(config_of(), features, labels)
    want, classified, apart = by_hand(features, labels, centres)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_classification"], classified, rtol=1e-5)
    np.testing.assert_allclose(metrics["distance_views"], apart, rtol=1e-5)


def test_its_gradient_is_that_of_the_formula():
    features, labels = case()
    _, grad, _, centres = loss_of(config_of(), features, labels)
    wide, step = features.astype(np.float64), 1e-6
    rng = np.random.default_rng(1)
    for _ in range(5):
        direction = rng.normal(size=wide.shape)
        ahead = by_hand(wide + step * direction, labels, centres)[0]
        behind = by_hand(wide - step * direction, labels, centres)[0]
        slope = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(np.sum(grad * direction), slope, rtol=1e-4)
    assert not grad[labels < 0].any()


def test_the_distance_alone_in_float64():
    one, other = np.moveaxis(case()[0], 1, 0)
    distance, pull = jax.jit(jax.vmap(jax.value_and_grad(_one_row)))(one, other)
    z, k = unit64(one), unit64(other)
    cos = np.sum(z * k, 1, keepdims=True)
    np.testing.assert_allclose(distance, 1 - cos[:, 0], atol=1e-6)
    want = -(k - cos * z) / np.linalg.norm(one, axis=1, keepdims=True)
    assert_close_in_norm(np.asarray(pull), want, tolerance=1e-5)


def _one_row(one, other):
    return cosine_distance(one[None], other[None])[0]


def test_equal_opposite_and_zero_features():
    x = jnp.asarray(case()[0][:3, 0])
    np.testing.assert_allclose(cosine_distance(x, 2 * x), 0, atol=1e-6)
    np.testing.assert_allclose(cosine_distance(x, -x), 2, atol=1e-6)
    zero = jnp.zeros_like(x)
    assert jnp.array_equal(cosine_distance(x, zero), jnp.ones(3))
    pull = jax.grad(lambda y: cosine_distance(x, y).sum())(zero)
    assert jnp.all(jnp.isfinite(pull))


def test_without_labels_the_loss_is_zero():
    features, labels = case()
    value, grad, _, _ = loss_of(config_of(), features, np.full_like(labels, -1))
    assert value == 0 and not grad.any()


@pytest.mark.parametrize("devices", [2, 8])
def test_it_is_the_same_on_any_number_of_devices(devices):
    features, labels = case()
    alone = loss_of(config_of(), features, labels)
    shared = loss_of(config_of(), features, labels, devices)
    np.testing.assert_allclose(shared[0], alone[0], rtol=1e-5)
    assert_close_in_norm(shared[1], alone[1], tolerance=1e-5)
