"""The joint objective: its formula, its edges, its states, any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import objectives
from qface_jax.losses.norm_stats import NormStats
from qface_jax.objectives.qgface import average
from qface_jax.sharded import parallel
from support import small_step
from support.closeness import assert_close_as_sums, assert_close_in_norm
from support.small_run import small

CLASSES, DIM, B = 40, 16, 32
# Qualities of features of norm 5 to 15 lie on both sides of the threshold.
STATS = NormStats(mean=jnp.float32(10.0), std=jnp.float32(2.0))
QUEUES = ("none", "batch", "momentum", "proxy")


def config_of(*words):
    return small("objective=qgface", f"data.batch_size={B}", "classifier.pad_to=8",
                 "qgface.ema_new_weight=0.5", "qgface.threshold=0.45",
                 "qgface.queue_size=64", *words)  # fmt: skip


def features_of(seed=0, low=5.0, high=15.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(B, 2, DIM))
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    return (z * rng.uniform(low, high, (B, 2, 1))).astype(np.float32)


def labels_of(seed=0, classes=CLASSES):
    labels = np.random.default_rng(seed).integers(0, classes, B).astype(np.int32)
    labels[[1, 7]] = -1
    return labels


def loss_of(config, features, labels, devices=1, sample_key=None, stats=STATS):
    """Loss, gradient to the features, state and metrics of a first step."""
    mesh = parallel.make_mesh(jax.devices()[:devices])
    objective = objectives.build(config, CLASSES, mesh)
    head, state = jax.jit(objective.init)(jax.random.key(3))
    state["quality"] = stats

    @jax.jit
    def run(features):
        def total(features):
            value, outcome = small_step.loss_of(
                objective, features, head, labels, state
            )
            return value, (outcome.state, outcome.metrics)

        return jax.value_and_grad(total, has_aux=True)(features)

    (value, (new, metrics)), grad = run(jnp.asarray(features))
    return float(value), np.asarray(grad), new, jax.device_get(metrics), head


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def adaface(features, labels, centres, margin=0.4, h=0.333, scale=64.0):
    """AdaFace's loss of each row, float64, in the first step of its statistics."""
    norms = np.clip(np.linalg.norm(features, axis=1), 1e-3, 100)
    counted = norms[labels >= 0]
    mean = 0.01 * counted.mean() + 0.99 * 20
    std = 0.01 * counted.std(ddof=1) + 0.99 * 100
    norm_hat = np.clip(h * (norms - mean) / (std + 1e-3), -1, 1)
    logits = unit(features) @ unit(centres).T
    losses = np.zeros(len(labels))
    for row, label in enumerate(labels):
        if label >= 0:
            theta = np.arccos(logits[row, label]) - margin * norm_hat[row]
            own = np.cos(np.clip(theta, 1e-3, np.pi - 1e-3))
            terms = scale * logits[row].copy()
            terms[label] = scale * (own - margin * norm_hat[row] - margin)
            losses[row] = np.logaddexp.reduce(terms) - terms[label]
    return losses


def test_one_view_is_classification_of_the_good_images():
    config = config_of("qgface.views=1", "qgface.queue=none")
    features, labels = features_of(), labels_of()
    value, grad, new, metrics, head = loss_of(config, features, labels)
    degraded = features[:, 0]
    norms, valid = np.linalg.norm(np.float64(degraded), axis=1), labels >= 0
    mean = 0.5 * norms[valid].mean() + 0.5 * float(STATS.mean)
    std = 0.5 * norms[valid].std(ddof=1) + 0.5 * float(STATS.std)
    u = (np.clip(0.333 * (norms - mean) / (std + 1e-3), -1, 1) + 1) / 2
    kept = (u > config.qgface.threshold) & valid
    assert 0 < kept.sum() < valid.sum()
    centres = np.float64(head["centres"])[:CLASSES]
    losses = adaface(np.float64(degraded), labels, centres)
    np.testing.assert_allclose(value, losses[kept].sum() / valid.sum(), rtol=1e-5)
    np.testing.assert_array_equal(grad[:, 1], 0)  # the sharp view is not looked at
    assert np.any(grad[kept, 0])
    assert "similarity_positive" not in metrics
    assert float(new["quality"].mean) == pytest.approx(mean, rel=1e-5)


def by_formula(config, features, labels, centres):
    """Equations 1 to 5 in float64; the queue holds this step's features alone."""
    group, features = config.qgface, np.float64(features)
    valid = labels >= 0
    norms = np.linalg.norm(features, axis=-1)
    counted = norms[valid]
    mean = 0.5 * counted.mean() + 0.5 * float(STATS.mean)
    std = 0.5 * counted.std(ddof=1) + 0.5 * float(STATS.std)
    u = (np.clip(0.333 * (norms - mean) / (std + 1e-3), -1, 1) + 1) / 2
    pair = {"min": np.minimum, "mean": lambda a, b: (a + b) / 2, "max": np.maximum,
            "none": np.minimum}[group.partition](u[:, 0], u[:, 1])  # fmt: skip
    everything = group.partition == "none"
    views = 1 if group.queue == "momentum" else 2
    flat, flat_labels = features[:, :views].reshape(-1, DIM), np.repeat(labels, views)
    kept = ((u[:, :views].reshape(-1) > group.threshold) | everything) & (
        flat_labels >= 0
    )
    losses = adaface(flat, flat_labels, np.float64(centres))
    total = losses[kept].sum() / np.sum(flat_labels >= 0)
    share = kept.sum() / np.sum(flat_labels >= 0)
    if group.queue == "none":
        return total, share
    entering = features[:, 1:] if group.queue == "momentum" else features
    entry_labels = np.repeat(labels, entering.shape[1])
    # Only rows with a label enter, and the last ones stay.
    size = None if group.queue == "batch" else group.queue_size
    stay = np.flatnonzero(entry_labels >= 0)[-size if size else None :]
    entries = unit(entering.reshape(-1, DIM))[stay]
    entry_labels = entry_labels[stay]
    q, k = unit(features[:, 0]), unit(features[:, 1])
    for row in np.flatnonzero(valid & ((pair <= group.threshold) | everything)):
        own = group.scale * (q[row] @ k[row])
        negatives = entry_labels != labels[row]
        terms = [own, *(group.scale * (entries[negatives] @ q[row]))]
        total += (np.logaddexp.reduce(terms) - own) / valid.sum()
    return total, share


@pytest.mark.parametrize("queue", QUEUES)
@pytest.mark.parametrize("partition", ["min", "none"])
def test_it_is_the_formula(queue, partition):
    config = config_of(f"qgface.queue={queue}", f"qgface.partition={partition}")
    features, labels = features_of(), labels_of()
    value, _, _, metrics, head = loss_of(config, features, labels)
    centres = np.asarray(head["centres"])[:CLASSES]
    want, share = by_formula(config, features, labels, centres)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_allclose(metrics["kept_classification"], share, rtol=1e-6)
    if partition == "min":
        assert 0.1 < metrics["kept_classification"] < 0.95


def test_a_queue_smaller_than_the_batch_holds_its_last_rows():
    config = config_of("qgface.queue_size=7")
    features, labels = features_of(), labels_of()
    value, _, new, _, head = loss_of(config, features, labels)
    centres = np.asarray(head["centres"])[:CLASSES]
    want, _ = by_formula(config, features, labels, centres)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    held = np.asarray(new["queue"].labels)
    assert np.sum(held >= 0) == 7 and set(held[:7]) == set(np.repeat(labels, 2)[-7:])


@pytest.mark.parametrize("partition", ["mean", "max"])
def test_other_qualities_of_a_pair(partition):
    config = config_of(f"qgface.partition={partition}")
    features, labels = features_of(), labels_of()
    value, _, _, metrics, head = loss_of(config, features, labels)
    centres = np.asarray(head["centres"])[:CLASSES]
    want, _ = by_formula(config, features, labels, centres)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    _, _, _, lowest, _ = loss_of(config_of(), features, labels)
    assert metrics["kept_contrastive"] < lowest["kept_contrastive"]


def test_the_original_has_no_gradient_from_the_pair():
    """Where a view is not classified, its gradient is the contrastive one alone."""
    config = config_of("qgface.threshold=1.0")
    _, grad, _, metrics, _ = loss_of(config, features_of(), labels_of())
    assert metrics["kept_classification"] == 0.0
    assert metrics["kept_contrastive"] == 1.0
    assert not np.any(grad[:, 1]) and np.any(grad[0, 0])


@pytest.mark.parametrize("queue", QUEUES)
def test_nothing_below_and_everything_below_the_threshold(queue):
    for words, classified, contrasted in (
        (("qgface.threshold=0.0", "qgface.concentration=0.0"), 1.0, 0.0),
        (("qgface.threshold=1.0",), 0.0, 1.0),
    ):
        config = config_of(f"qgface.queue={queue}", *words)
        value, grad, _, metrics, _ = loss_of(config, features_of(), labels_of())
        assert metrics["kept_classification"] == classified
        assert np.isfinite(value) and np.all(np.isfinite(grad))
        if queue != "none":
            assert metrics["kept_contrastive"] == contrasted
            kept = "loss_classification" if classified else "loss_contrastive"
            assert value == metrics[kept] > 0.0
        elif not classified:
            assert value == 0.0 and not np.any(grad)


def test_one_identity_in_batch_and_queue_costs_no_contrast():
    config = config_of("qgface.partition=none")
    labels = np.full(B, 3, np.int32)
    value, grad, new, metrics, _ = loss_of(config, features_of(), labels)
    assert metrics["loss_contrastive"] == 0.0 == metrics["similarity_negative"]
    assert value == metrics["loss_classification"] > 0
    assert np.all(np.isfinite(grad))
    assert set(np.asarray(new["queue"].labels)) == {3}


def test_a_batch_without_labels_changes_nothing():
    labels = np.full(B, -1, np.int32)
    value, grad, new, metrics, _ = loss_of(config_of(), features_of(), labels)
    assert value == 0.0 and not np.any(grad)
    assert metrics["queue_fill"] == 0.0
    assert float(new["quality"].mean) == float(STATS.mean)


def test_without_the_mask_a_view_is_not_its_own_negative():
    """The first step then compares with an empty queue."""
    config = config_of("qgface.partition=none", "qgface.supervised_mask=False")
    _, _, new, metrics, _ = loss_of(config, features_of(), labels_of())
    assert metrics["loss_contrastive"] == 0.0
    assert np.sum(np.asarray(new["queue"].labels) >= 0) == 2 * (B - 2)


@pytest.mark.parametrize(
    "queue",
    [
        pytest.param("none", marks=pytest.mark.slow),
        pytest.param("batch", marks=pytest.mark.slow),
        "momentum",
        "proxy",
    ],
)
def test_one_device_and_eight(queue):
    """Three steps: losses, parameters, queue and statistics."""
    found = []
    for devices in (1, 8):
        config = config_of(f"qgface.queue={queue}", "qgface.threshold=0.4845",
                           "classifier.sample_rate=0.5", "qgface.chunk=3")  # fmt: skip
        step, state, rows, key = small_step.step_of(
            config, small_step.LINEAR, CLASSES, devices
        )
        losses = []
        for _ in range(3):
            state, metrics = step(state, rows, key)
            losses.append(float(metrics["loss"]))
        assert 0 < metrics["kept_classification"] < 1
        found.append((losses, jax.device_get(state)))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    assert_close_in_norm(found[1][1], found[0][1], 1e-5)


def test_the_averaged_encoder_follows_and_gets_no_gradient():
    config = config_of("qgface.queue=momentum", "qgface.encoder_decay=0.3")
    step, state, rows, key = small_step.step_of(config, small_step.LINEAR, CLASSES, 1)
    old = state.params["backbone"]["kernel"]
    averaged = old
    for number in range(3):
        state, _ = step(state, rows, key)
        keep = min(0.3, (1 + number) / (10 + number))
        averaged = keep * averaged + (1 - keep) * state.params["backbone"]["kernel"]
    assert np.any(np.asarray(state.params["backbone"]["kernel"] != old))
    got = state.averaged["backbone"]["kernel"]
    assert_close_as_sums(got, averaged, terms=6)
    plain = config_of("qgface.queue=proxy")
    _, without, _, _ = small_step.step_of(plain, small_step.LINEAR, CLASSES, 1)
    assert without.averaged is None


def test_the_average_ends_at_its_decay():
    late = average(jnp.float32(1.0), jnp.float32(0.0), step=jnp.int32(10**6), decay=0.9)
    np.testing.assert_allclose(late, 0.9, rtol=1e-6)
    first = average(jnp.float32(1.0), jnp.float32(0.0), step=jnp.int32(0), decay=0.9)
    np.testing.assert_allclose(first, 0.1, rtol=1e-6)
