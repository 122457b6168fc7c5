"""The recognizability objective: its formula, its edges, any devices, parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import models, objectives
from qface_jax.losses import recognizability as kernels
from qface_jax.models.network import TrunkOutput
from qface_jax.sharded import parallel
from support import small_step
from support.closeness import assert_close_as_sums, assert_close_in_norm
from support.small_run import small

CLASSES, ROWS, DIM = 5, 32, 16
WEIGHTS = {"index": 5.0, "diversion": 2.0, "attention": 1.0}


def config_of(*words):
    return small("objective=recognizability", "degrade.recipe=recognizability",
                 "loss.margin=arcface", "data.batch_size=32", "optim.name=adam",
                 "optim.learning_rate=0.01", "recognizability.regression_dropout=0",
                 "recognizability.threshold=3.0",
                 *words)  # fmt: skip


def trunk(params, stats, images, *, train, key):
    """A map of the size that the config's one has, beside the linear one's."""
    shape = models.feature_map_shape(config_of().model)
    pixels = images[:, ::8, ::8, :][:, : shape[0], : shape[1]]
    feature_map = jnp.repeat(pixels, -(-shape[2] // 3), axis=3)[..., : shape[2]]
    scale = jnp.mean(params["kernel"] ** 2)
    linear, stats = small_step.LINEAR.trunk(params, stats, images, train=train, key=key)
    return TrunkOutput(scale * feature_map, (linear,)), stats


def neck(params, stats, output, *, train, key):
    """The linear backbone's."""
    (linear,) = output.beside
    return small_step.LINEAR.neck(params, stats, linear, train=train, key=key)


MODEL = small_step.LINEAR._replace(trunk=trunk, neck=neck)


def case(config, seed=0):
    """Objective on one device, its parameters and state, features, map, labels."""
    mesh = parallel.make_mesh(jax.devices()[:1])
    objective = objectives.build(config, CLASSES, mesh)
    head, state = objective.init(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(ROWS, DIM)).astype(np.float32) * 4
    shape = models.feature_map_shape(config.model)
    feature_map = rng.normal(size=(ROWS, *shape)).astype(np.float32)
    labels = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    labels[[0, 7]] = -1
    centre = rng.normal(size=DIM)
    ui = {
        "centre": jnp.asarray(centre / np.linalg.norm(centre), jnp.float32),
        "mean": jnp.float32(-0.2),
        "std": jnp.float32(0.4),
    }
    return objective, head, state | {"ui": ui}, features, feature_map, labels


def run(objective, head, state, encoded, labels, key=None):
    """Loss, metrics, and the gradients to what is encoded and to the head."""

    def total(encoded, head):
        value, outcome = small_step.loss_of(
            objective, encoded, head, labels, state, key=key
        )
        assert set(outcome.state) == set(state)
        return value, outcome.metrics

    grads = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (value, metrics), found = grads(jax.tree.map(jnp.asarray, encoded), head)
    return float(value), jax.device_get(metrics), jax.device_get(found)


def plain(head, state, features, labels, scale=64.0, margin=0.5):
    """The terms but that of the attention, in float64."""
    head, ui = jax.device_get((head, state["ui"]))
    v = np.float64(features) / np.linalg.norm(np.float64(features), axis=1)[:, None]
    w = np.float64(head["centres"])[:CLASSES]
    w /= np.linalg.norm(w, axis=1)[:, None]
    cos = v @ w.T
    terms = {"classification": [], "index": [], "diversion": []}
    for row in np.flatnonzero(labels >= 0):
        own, others = cos[row, labels[row]], np.delete(cos[row], labels[row])
        logit = scale * np.cos(np.arccos(own) + margin)
        logits = np.append(scale * others, logit)
        log_sum = logits.max() + np.log(np.exp(logits - logits.max()).sum())
        terms["classification"].append(log_sum - logit)
        d_ui = 1 - v[row] @ np.float64(ui["centre"])
        target = d_ui * (1 - others.max()) / (1 - own + 0.01)
        regression = head["prm"]
        predicted = np.float64(features[row]) @ regression["kernel"][:, 0]
        predicted += regression["bias"][0]
        error = abs(predicted - target)
        straight = error - 0.375
        terms["index"].append(error**2 / 1.5 if error < 0.75 else straight)
        score = (predicted - ui["mean"]) / ui["std"]
        terms["diversion"].append(max(0.0, 3.0 - score))
    return {name: np.mean(values) for name, values in terms.items()}


def test_it_is_the_sum_of_the_weighted_terms():
    config = config_of()
    objective, head, state, features, feature_map, labels = case(config)
    value, metrics, _ = run(objective, head, state, (features, feature_map), labels)
    want = plain(head, state, features, labels)
    for name, term in want.items():
        np.testing.assert_allclose(metrics[f"loss_{name}"], term, rtol=2e-5)
    total = want["classification"] + sum(
        weight * metrics[f"loss_{name}"] for name, weight in WEIGHTS.items()
    )
    np.testing.assert_allclose(value, total, rtol=2e-5)
    assert 0 < metrics["loss_attention"] < 1


def test_padding_has_no_gradient_and_every_other_part_has():
    objective, head, state, features, feature_map, labels = case(config_of())
    _, _, (encoded, to_head) = run(
        objective, head, state, (features, feature_map), labels
    )
    for grad in encoded:
        rows = np.abs(grad).reshape(ROWS, -1).max(axis=1)
        assert not np.any(rows[labels < 0]) and np.all(rows[labels >= 0])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(to_head))


def test_the_gradient_is_that_of_the_terms_with_their_targets_held():
    """Along a direction, against differences; targets and the UIs' index stand."""
    objective, head, state, features, _, labels = case(
        config_of("recognizability.attention_weight=0")
    )
    assert "pam" not in head
    _, _, (grad, _) = run(objective, head, state, features, labels)
    regression = jax.device_get(head["prm"])
    ui, valid = jax.device_get(state["ui"]), labels >= 0
    cosines = plain_cosines(head, state, features, labels)
    target = kernels.ri_target(
        *(jnp.asarray(x, jnp.float32) for x in cosines), epsilon=0.01
    )

    def held(x):
        predicted = x @ np.float64(regression["kernel"][:, 0]) + regression["bias"][0]
        error = np.abs(predicted - np.float64(target))
        index = np.where(error < 0.75, error**2 / 1.5, error - 0.375)
        diversion = np.maximum(3 - (predicted - ui["mean"]) / ui["std"], 0)
        classified = plain(head, state, x, labels)["classification"]
        return classified + 5 * index[valid].mean() + 2 * diversion[valid].mean()

    rng = np.random.default_rng(3)
    for _ in range(3):
        direction = rng.normal(size=features.shape)
        ends = [held(np.float64(features) + s * 1e-5 * direction) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(grad * direction), slope, rtol=1e-3)


def test_the_diversion_moves_the_features_or_the_regression_too():
    found = {}
    for name, words in {
        "none": ["recognizability.diversion_weight=0"],
        "features": [],
        "both": ["recognizability.diversion_moves=both"],
    }.items():
        config = config_of("recognizability.attention_weight=0", *words)
        objective, head, state, features, _, labels = case(config)
        _, _, (encoded, to_head) = run(objective, head, state, features, labels)
        found[name] = (encoded, to_head["prm"]["kernel"])
    # Behind a feature's: its cosines, their softmax, and the other two terms.
    assert_close_as_sums(
        found["both"][0], found["features"][0], terms=DIM + CLASSES + 2
    )
    assert_close_as_sums(found["features"][1], found["none"][1], terms=ROWS)
    for one, other, which in (("features", "none", 0), ("both", "features", 1)):
        a, b = found[one][which], found[other][which]
        assert np.linalg.norm(a - b) > 1e-2 * np.linalg.norm(b)


def test_the_regression_can_move_itself_alone():
    gradients = {}
    for name, words in {
        "none": ["recognizability.index_weight=0"],
        "regression": ["recognizability.regression_moves=regression"],
        "both": [],
    }.items():
        config = config_of("recognizability.attention_weight=0", *words)
        objective, head, state, features, _, labels = case(config)
        _, _, (encoded, to_head) = run(objective, head, state, features, labels)
        gradients[name] = (encoded, to_head["prm"]["kernel"])
    terms = DIM + CLASSES + 2
    assert_close_as_sums(gradients["regression"][0], gradients["none"][0], terms=terms)
    assert_close_as_sums(gradients["regression"][1], gradients["both"][1], terms=ROWS)
    for one, other, which in (("both", "regression", 0), ("regression", "none", 1)):
        a, b = gradients[one][which], gradients[other][which]
        assert np.linalg.norm(a - b) > 1e-2 * np.linalg.norm(a)


def test_a_bounded_target_is_what_is_learned():
    plain_, bounded = (
        run(objective, head, state, (features, feature_map), labels)[1]["ri_target"]
        for objective, head, state, features, feature_map, labels in map(
            case, (config_of(), config_of("recognizability.target=bounded"))
        )
    )
    assert 0 < bounded < min(1.0, plain_)


def plain_cosines(head, state, features, labels):
    """Cosines to the own, the nearest other and the UI centre; 0 of padding."""
    v = np.float64(features) / np.linalg.norm(np.float64(features), axis=1)[:, None]
    w = np.float64(jax.device_get(head["centres"]))[:CLASSES]
    cos = v @ (w / np.linalg.norm(w, axis=1)[:, None]).T
    own = np.arange(CLASSES)[None] == labels[:, None]
    return (
        np.where(own, cos, 0).sum(axis=1),
        np.where(own, -2, cos).max(axis=1),
        v @ np.float64(state["ui"]["centre"]),
    )


@pytest.mark.parametrize("which", ["ui centre", "own centre", "zero", "one identity"])
def test_edges_are_finite(which):
    objective, head, state, features, feature_map, labels = case(config_of())
    if which == "ui centre":
        features = features * 0 + 5 * np.asarray(state["ui"]["centre"])
    elif which == "own centre":
        features = 5 * np.asarray(head["centres"])[np.maximum(labels, 0)]
    elif which == "zero":
        features = features * 0
    else:
        labels = np.where(labels < 0, labels, 2).astype(np.int32)
    value, metrics, grads = run(objective, head, state, (features, feature_map), labels)
    assert np.isfinite(value)
    assert all(np.isfinite(x) for x in metrics.values())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(grads))
    if which == "ui centre":
        assert metrics["ri_target"] < 1e-5


def test_a_batch_of_padding_only():
    objective, head, state, features, feature_map, labels = case(config_of())
    value, metrics, grads = run(
        objective, head, state, (features, feature_map), np.full_like(labels, -1)
    )
    assert value == 0.0 and all(np.isfinite(x) for x in metrics.values())
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_the_dropout_follows_from_the_key():
    config = config_of("recognizability.regression_dropout=0.9")
    objective, head, state, features, feature_map, labels = case(config)
    given = (objective, head, state, (features, feature_map), labels)
    one, again, other = (run(*given, jax.random.key(k)) for k in (1, 1, 2))
    assert one[0] == again[0] != other[0]
    # What is logged is what an evaluation would see.
    assert one[1]["ri"] == other[1]["ri"]


def test_the_index_of_unit_features_does_not_see_their_length():
    config = config_of("recognizability.index_of=unit")
    objective, head, state, features, feature_map, labels = case(config)
    found = [
        run(objective, head, state, (scale * features, feature_map), labels)[1]["ri"]
        for scale in (1.0, np.float32(7.0))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def three_steps(config, devices, parts=1):
    """Metrics of each step, and the state they end in."""
    step, state, rows, key = small_step.step_of(
        config, MODEL, CLASSES, devices, parts=parts
    )
    centre = np.eye(DIM, dtype=np.float32)[0]
    ui = jax.tree.map(jnp.copy, state.aux["ui"])
    ui["centre"] = jax.device_put(centre, ui["centre"].sharding)
    state, found = state.replace(aux=state.aux | {"ui": ui}), []
    for _ in range(3):
        state, metrics = step(state, rows, key)
        found.append(jax.device_get(metrics))
    return found, jax.device_get(state)


@pytest.fixture(scope="module")
def whole_batches():
    """Three steps on one device, with dropout before the regression."""
    return three_steps(config_of("recognizability.regression_dropout=0.5"), 1)


@pytest.mark.parametrize("parts", [1, 2])
def test_eight_devices_take_the_same_steps(whole_batches, parts):
    config = config_of("recognizability.regression_dropout=0.5")
    want, state = whole_batches
    got, same = three_steps(config, 8, parts=parts)
    for name in want[0]:
        np.testing.assert_allclose(
            [m[name] for m in got], [m[name] for m in want], rtol=1e-5, atol=1e-6
        )
    assert_close_in_norm(same, state, 1e-5, floor=1.0)


def test_what_is_known_of_uis_is_not_changed_by_a_step(whole_batches):
    _, state = whole_batches
    assert state.aux["ui"]["centre"][0] == 1.0 and state.aux["ui"]["mean"] == 0.0
