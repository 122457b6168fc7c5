"""The contrastive loss: recordings, a plain derivation, its edges."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qface_jax.losses import contrast

RTOL = 1e-5


def contrastive_loss(*arrays, **settings):
    """The kernel takes arrays of JAX only."""
    return contrast.contrastive_loss(*map(jnp.asarray, arrays), **settings)


def case(rows=6, entries=20, dim=8, seed=0, identities=5):
    rng = np.random.default_rng(seed)
    queue = rng.normal(size=(entries, dim))
    return (
        rng.normal(size=(rows, dim)).astype(np.float32) * 20,
        rng.normal(size=(rows, dim)).astype(np.float32) * 20,
        (queue / np.linalg.norm(queue, axis=1, keepdims=True)).astype(np.float32),
        rng.integers(0, identities, rows).astype(np.int32),
        rng.integers(0, identities, entries).astype(np.int32),
    )


def plain(q, k, queue, labels, queue_labels, *, scale, supervised_mask=True):
    """float64, one row at a time."""
    losses = []
    for row in range(len(q)):
        z, positive = (x[row] / np.linalg.norm(x[row]) for x in map(np.float64, (q, k)))
        own = scale * np.clip(z @ positive, -1, 1)
        terms = [own]
        for entry, label in zip(np.float64(queue), queue_labels, strict=True):
            same = supervised_mask and label == labels[row]
            if label >= 0 and not same:
                terms.append(scale * np.clip(z @ entry, -1, 1))
        losses.append(np.logaddexp.reduce(terms) - own)
    return np.array(losses)


@pytest.mark.parametrize("mask", [True, False])
def test_golden(mask, golden):
    record = golden("contrastive_scm" if mask else "contrastive_noscm")
    rest = (record["queue"], record["labels"].astype(np.int32),
            record["queue_labels"].astype(np.int32))  # fmt: skip

    def total(q, k, queue):
        loss = contrastive_loss(
            q, k, queue, *rest[1:], scale=float(record["s"]), supervised_mask=mask
        )
        return jnp.mean(loss), loss

    grads = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
    for fn in (grads, jax.jit(grads)):
        (_, loss), (dq, dk, dqueue) = fn(record["q"], record["k"], rest[0])
        np.testing.assert_allclose(loss, record["loss"], rtol=RTOL, atol=1e-5)
        difference = np.linalg.norm(dq - record["dq"])
        assert difference <= RTOL * np.linalg.norm(record["dq"])
        assert not np.any(dk) and not np.any(dqueue)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 20, 8192])
def test_float64(mask, chunk):
    arrays = case()
    loss = contrastive_loss(*arrays, scale=64.0, supervised_mask=mask, chunk=chunk)
    want = plain(*arrays, scale=64.0, supervised_mask=mask)
    np.testing.assert_allclose(loss, want, rtol=RTOL, atol=1e-5)


@pytest.mark.parametrize("chunk", [6, 20])
def test_gradient(chunk):
    q, *rest = case()
    loss = partial(contrastive_loss, scale=8.0, chunk=chunk)
    check_grads(lambda q: loss(q, *rest), (q,), order=1, modes=["rev"], eps=1e-2,
                rtol=2e-2, atol=2e-3)  # fmt: skip


def grads_are_finite(arrays):
    loss, pull = jax.vjp(
        lambda q: contrastive_loss(q, *arrays[1:], scale=64.0), arrays[0]
    )
    (dq,) = pull(jnp.ones_like(loss))
    assert np.all(np.isfinite(dq)) and np.all(np.isfinite(loss))
    return np.asarray(loss), np.asarray(dq)


def test_an_empty_queue_costs_nothing():
    q, k, queue, labels, queue_labels = case()
    for entries in ((queue, np.full_like(queue_labels, -1)),
                    (queue[:0], queue_labels[:0])):  # fmt: skip
        loss, dq = grads_are_finite((q, k, entries[0], labels, entries[1]))
        assert not loss.any() and not dq.any()


def test_one_identity_in_the_queue():
    q, k, queue, labels, queue_labels = case()
    arrays = (q, k, queue, labels, np.full_like(queue_labels, labels[0]))
    loss, _ = grads_are_finite(arrays)
    np.testing.assert_allclose(loss, plain(*arrays, scale=64.0), rtol=RTOL, atol=1e-5)
    assert loss[0] == 0.0 and np.any(loss > 0)


def test_all_labels_of_the_batch_are_equal():
    q, k, queue, labels, queue_labels = case()
    arrays = (q, k, queue, np.full_like(labels, 3), queue_labels)
    loss, _ = grads_are_finite(arrays)
    np.testing.assert_allclose(loss, plain(*arrays, scale=64.0), rtol=RTOL, atol=1e-5)


def test_cosines_at_their_ends():
    q, _, _, labels, _ = case(rows=3, entries=3)
    unit = q / np.linalg.norm(q, axis=1, keepdims=True)
    for sign in (1.0, -1.0):
        arrays = (q, sign * q, sign * unit, labels, (labels + 1) % 5)
        loss, _ = grads_are_finite(arrays)
        np.testing.assert_allclose(
            loss, plain(*arrays, scale=64.0), rtol=RTOL, atol=2e-5
        )


def test_zero_features():
    q, k, queue, labels, queue_labels = case()
    q[0] = k[1] = 0.0
    queue[2] = 0.0
    loss, _ = grads_are_finite((q, k, queue, labels, queue_labels))
    # All cosines of a zero feature are 0: one positive among 1 + its negatives.
    negatives = np.sum(queue_labels != labels[0])
    np.testing.assert_allclose(loss[0], np.log(1 + negatives), rtol=RTOL)


def test_an_entry_that_is_not_unit_is_clipped():
    """Proxy-updated entries are not normalised again."""
    q, k, queue, labels, queue_labels = case()
    arrays = (q, k, 3.0 * queue, labels, queue_labels)
    loss = contrastive_loss(*arrays, scale=64.0)
    np.testing.assert_allclose(loss, plain(*arrays, scale=64.0), rtol=RTOL, atol=1e-5)


def test_memory_does_not_grow_with_rows_times_entries():
    rows, entries, dim = 64, 65536, 16
    shapes = (
        jax.ShapeDtypeStruct((rows, dim), jnp.float32),
        jax.ShapeDtypeStruct((rows, dim), jnp.float32),
        jax.ShapeDtypeStruct((entries, dim), jnp.float32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
        jax.ShapeDtypeStruct((entries,), jnp.int32),
    )
    grad = jax.jit(
        jax.grad(lambda *a: jnp.sum(contrastive_loss(*a, scale=64.0, chunk=1024)))
    )
    temporary = grad.lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    assert temporary < rows * entries * 4 / 4
