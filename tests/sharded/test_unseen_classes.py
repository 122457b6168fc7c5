"""Centres that are no picture's own: they move by the formula, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support.small_run import small
from support.small_step import LINEAR, momentum, step_of
from support.user_types import types_as_users_have_them  # noqa: F401

CLASSES, ROWS = 250, 256
SCALE, MARGIN, RATE, DECAY, MOMENTUM = 16.0, 0.2, 0.1, 0.05, 0.9


def config(*changes):
    return small(
        "classifier.pad_to=16",
        "loss.margin=cosface",
        f"loss.cosface.margin={MARGIN}",
        f"loss.scale={SCALE}",
        "optim.schedule=constant",
        f"optim.learning_rate={RATE}",
        f"optim.weight_decay={DECAY}",
        f"optim.momentum={MOMENTUM}",
        *changes,
    )


def with_momentum(state):
    """The state with a momentum left over from earlier steps on every class row."""
    row = jax.random.normal(jax.random.key(5), (ROWS, 16))

    def fill(path, leaf):
        if "centres" not in jax.tree_util.keystr(path):
            return leaf
        return jax.device_put(row.astype(leaf.dtype), leaf.sharding)

    return state.replace(
        opt_state=jax.tree_util.tree_map_with_path(fill, state.opt_state)
    )


def centres(state):
    return np.asarray(state.params["head"]["centres"])


def trace(state):
    return np.asarray(momentum(state)["head"]["centres"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_unsampled_class_and_its_momentum_do_not_change_at_all(dtype):
    """Nor by decay, nor by the momentum of earlier steps, nor by rounding."""
    step, first, rows, key = step_of(
        config("classifier.sample_rate=0.05", f"classifier.dtype={dtype}"),
        LINEAR,
        CLASSES,
        2,
    )
    now = first = with_momentum(first)
    seen = set()
    for _ in range(4):
        before = now
        now, _ = step(now, rows, key)
        changed = np.any(centres(before) != centres(now), axis=1)
        moved = np.any(trace(before) != trace(now), axis=1)
        np.testing.assert_array_equal(changed, moved)
        # 16 blocks of 16 rows draw one each; the batch has at most 29 classes.
        assert 29 - 8 < changed.sum() <= 16 + 29
        seen |= set(np.flatnonzero(changed))
    others = np.array(sorted(set(range(ROWS)) - seen))
    assert len(others) > 100
    np.testing.assert_array_equal(centres(now)[others], centres(first)[others])
    np.testing.assert_array_equal(trace(now)[others], trace(first)[others])
    assert np.abs(trace(first)[others].astype(np.float32)).min(1).max() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_padding_rows_are_zero_and_stay_so(dtype):
    step, first, rows, key = step_of(
        config(f"classifier.dtype={dtype}"), LINEAR, CLASSES, 8
    )
    now = first
    for _ in range(4):
        now, _ = step(now, rows, key)
    for array in (centres(first), centres(now), trace(now)):
        assert array.shape == (ROWS, 16)
        np.testing.assert_array_equal(array[CLASSES:].astype(np.float32), 0.0)
    assert np.all(np.any(centres(first) != centres(now), axis=1)[:CLASSES])


def negative_gradient(features, labels, w):
    """d loss / d w_j of the classes that are no row's own, in float64, all at once.

    loss = mean_i -log softmax(s (cos_i - m own_i)); for a negative class j
    d loss / d cos_ij = s p_ij / n, with w^ = w_j / |w_j|
    d cos_ij / d w_j  = (z_i - cos_ij w^) / |w_j|
    """
    z = features / np.linalg.norm(features, axis=1, keepdims=True)
    lengths = np.linalg.norm(w, axis=1, keepdims=True)
    cos = np.einsum("bd,cd->bc", z, w / lengths)
    valid = labels >= 0
    logits = SCALE * cos
    logits[valid, labels[valid]] -= SCALE * MARGIN
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    dcos = SCALE * probs * valid[:, None] / valid.sum()
    along = np.einsum("bc,bc->c", dcos, cos)[:, None]
    return (np.einsum("bc,bd->cd", dcos, z) - along * w / lengths) / lengths


def test_a_class_that_was_never_positive_gets_the_gradient_of_a_negative_only():
    step, now, rows, key = step_of(config(), LINEAR, CLASSES, 8)
    labels = np.asarray(rows["labels"])
    never = np.array(sorted(set(range(CLASSES)) - set(labels.tolist())))
    assert len(never) > 200
    images = np.asarray(rows["images"], np.float32) / 127.5 - 1
    pushed = 0.0
    for number in range(3):
        features, _ = LINEAR.apply(
            now.params["backbone"], {}, jnp.asarray(images), train=True, key=None
        )
        w = centres(now)[:CLASSES].astype(np.float64)
        old = trace(now)[:CLASSES].astype(np.float64)
        grads = negative_gradient(np.asarray(features, np.float64), labels, w)
        want_trace = grads + DECAY * w + MOMENTUM * old
        want = w - RATE * want_trace
        now, _ = step(now, rows, key)
        got_trace, got = trace(now)[never], centres(now)[never]
        for a, b in ((got_trace, want_trace[never]), (got, want[never])):
            error = np.linalg.norm(a - b, axis=1)
            assert np.all(error <= 1e-5 * np.linalg.norm(b, axis=1)), number
        pushed += np.linalg.norm(grads[never])
    assert pushed > 1e-3  # it is more than the decay
