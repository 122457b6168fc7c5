"""The octuplet objective: its formula, its edges, any devices, batches in parts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import objectives
from qface_jax.losses import octuplet as kernel
from qface_jax.objectives.octuplet import relative_drift
from qface_jax.sharded import parallel
from support import octuplet_case, small_step
from support.closeness import assert_close_in_norm
from support.small_run import small

CLASSES = 8  # of 32 rows: each has images to compare with
MARGIN = 0.5
KEEP = ("octuplet.keep_high_weight=3.0", "octuplet.keep_low_weight=2.0")


def config_of(*words):
    return small("objective=octuplet", "degrade.recipe=octuplet", "data.batch_size=32",
                 f"octuplet.margin={MARGIN}", "octuplet.normalize=True",
                 "optim.learning_rate=0.01", *words)  # fmt: skip


def case():
    """Features [b, 2, d] of low and high resolution, the original's [b, d], labels."""
    high, low, labels = octuplet_case.batch()
    labels[[0, 5]] = -1
    rng = np.random.default_rng(4)
    original = high + rng.normal(size=high.shape).astype(np.float32)
    return np.stack([low, high], axis=1), original, labels


def loss_of(config, features, labels, original=None):
    """Loss, gradient to the features and metrics."""
    mesh = parallel.make_mesh(jax.devices()[:1])
    objective = objectives.build(config, CLASSES, mesh)
    kept = {} if original is None else {"original": jnp.asarray(original)}

    def total(features):
        value, outcome = small_step.loss_of(objective, features, {}, labels, kept)
        assert outcome.state == kept
        return value, outcome.metrics

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    (value, metrics), grad = run(jnp.asarray(features))
    return float(value), np.asarray(grad), jax.device_get(metrics)


def drift64(features, original, labels):
    """The drift and its gradient to the features, in float64."""
    valid = (labels >= 0)[:, None]
    moved = np.where(valid, np.float64(features) - original, 0)
    size = np.sum(np.where(valid, np.float64(original), 0) ** 2)
    return np.sum(moved**2) / size, 2 * moved / size


def kernels_gradient(features, labels, terms=kernel.ALL_TERMS):
    """That of the loss kernel alone."""

    def loss(features):
        low, high = features[:, 0], features[:, 1]
        settings = {"margin": MARGIN, "normalize": True, "terms": terms}
        return kernel.octuplet_loss(high, low, jnp.asarray(labels), **settings)

    return np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(features)))


close = partial(assert_close_in_norm, tolerance=1e-5)  # gradients


def test_it_is_the_kernel_and_the_weighted_drifts():
    features, original, labels = case()
    value, grad, metrics = loss_of(config_of(*KEEP), features, labels, original)
    low, high = features[:, 0], features[:, 1]
    terms, _ = octuplet_case.plain(high, low, labels, margin=MARGIN, normalize=True)
    drifts = {n: drift64(features[:, v], original, labels) for v, n in enumerate("lh")}
    np.testing.assert_allclose(metrics["loss_octuplet"], terms.sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["drift_low"], drifts["l"][0], rtol=1e-5)
    np.testing.assert_allclose(metrics["drift_high"], drifts["h"][0], rtol=1e-5)
    want = terms.sum() + 3 * drifts["h"][0] + 2 * drifts["l"][0]
    np.testing.assert_allclose(value, want, rtol=1e-5)
    kept = np.stack([2 * drifts["l"][1], 3 * drifts["h"][1]], axis=1)
    close(grad, kernels_gradient(features, labels) + kept)
    assert not np.any(grad[labels < 0])
    valid = labels >= 0
    norms = np.linalg.norm(np.float64(features), axis=2)[valid].mean(0)
    np.testing.assert_allclose(metrics["norm_low"], norms[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["norm"], norms[1], rtol=1e-5)


def test_without_weights_it_is_the_kernel_alone_with_the_configs_terms():
    features, _, labels = case()
    config = config_of("octuplet.terms=('hll','lll')")
    value, grad, metrics = loss_of(config, features, labels)
    assert value == metrics["loss_octuplet"]
    assert not {"drift_high", "drift_low"} & set(metrics)
    losses = {name for name in metrics if name.startswith("loss_")}
    assert losses == {"loss_octuplet", "loss_hll", "loss_lll"}
    close(grad, kernels_gradient(features, labels, (False, True, False, True)))


@pytest.mark.parametrize("labels", [-1, 3], ids=["padding", "one identity"])
def test_a_batch_to_learn_nothing_from(labels):
    features, original, _ = case()
    labels = np.full(len(features), labels, np.int32)
    value, grad, metrics = loss_of(config_of(*KEEP), features, labels, original)
    assert metrics["loss_octuplet"] == 0.0
    assert np.isfinite(value) and np.all(np.isfinite(grad))
    assert all(np.isfinite(found) for found in metrics.values())
    assert np.any(grad) == (labels[0] >= 0)  # the drift's


def test_drift_of_equal_features_is_zero_and_so_is_its_gradient():
    features, original, labels = case()
    drift = jax.jit(jax.value_and_grad(relative_drift, (0, 1)))
    same = jnp.asarray(original)
    value, (grad, _) = drift(same, same, jnp.asarray(labels))
    assert value == 0.0 and not np.any(grad)
    value, (grad, to_original) = drift(features[:, 1], same, jnp.asarray(labels))
    want, slope = drift64(features[:, 1], original, labels)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    close(np.asarray(grad), slope)
    assert not np.any(to_original)
    # Rows of padding may hold anything.
    padded = jnp.where(jnp.asarray(labels >= 0)[:, None], same, jnp.inf)
    assert drift(padded, same, jnp.asarray(labels))[0] == 0.0


def three_steps(config, devices, parts=1):
    """Metrics of each step, and the state they end in."""
    step, state, rows, key = small_step.step_of(
        config, small_step.LINEAR, CLASSES, devices, parts=parts
    )
    first, found = jax.device_get(state.params), []
    for _ in range(3):
        state, metrics = step(state, rows, key)
        found.append(jax.device_get(metrics))
    return first, found, jax.device_get(state)


@pytest.fixture(scope="module")
def whole_batches():
    """Three steps on one device."""
    return three_steps(config_of(*KEEP), 1)


def test_steps_keep_the_original_and_move_away_from_it(whole_batches):
    first, metrics, state = whole_batches
    np.testing.assert_array_equal(
        state.original["backbone"]["kernel"], first["backbone"]["kernel"]
    )
    assert np.any(state.params["backbone"]["kernel"] != first["backbone"]["kernel"])
    assert metrics[0]["drift_high"] < 1e-12 < metrics[1]["drift_high"]
    assert metrics[0]["drift_low"] > 1e-3  # low resolution is not the original's
    assert all(np.isfinite(value) for found in metrics for value in found.values())
    assert state.params["head"] == {} == state.aux


def test_eight_devices_and_two_parts_take_the_same_steps(whole_batches):
    _, want, state = whole_batches
    _, got, same = three_steps(config_of(*KEEP), 8, parts=2)
    for name in ("loss", "loss_octuplet", "drift_low", "active_hll"):
        np.testing.assert_allclose(
            [m[name] for m in got], [m[name] for m in want], rtol=1e-5
        )
    close(same, state)


def test_without_weights_no_original_is_kept():
    shapes = small_step.step_of(
        config_of(), small_step.LINEAR, CLASSES, 1, shapes_only=True
    )
    assert shapes[1].original is None
