"""The queue: a recording, its order, its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.sharded import feature_queue


def rows(count, start=0, dim=3):
    """Rows that say their number; label and feature are the same number."""
    numbers = jnp.arange(start, start + count)
    return jnp.repeat(numbers[:, None].astype(jnp.float32), dim, 1), numbers


def test_golden(golden):
    record = golden("proxy_queue")
    then, now = (
        jnp.asarray(record[name].T[record["queue_labels"]])
        for name in ("w_at_enqueue", "w_now")
    )
    for fn in (feature_queue.proxy_view, jax.jit(feature_queue.proxy_view)):
        got = fn(jnp.asarray(record["queue"]), then, now)
        np.testing.assert_allclose(got, record["updated"], rtol=1e-5, atol=1e-6)


def test_float64():
    rng = np.random.default_rng(0)
    z, then, now = rng.normal(size=(3, 20, 8))
    ratio = np.linalg.norm(z, axis=1) / np.linalg.norm(then, axis=1)
    want = z + ratio[:, None] * (now - then)
    got = feature_queue.proxy_view(*(jnp.float32(x) for x in (z, then, now)))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_centres_that_did_not_move_leave_the_features():
    z, then = jnp.ones((4, 3)), jnp.full((4, 3), 7.0)
    np.testing.assert_array_equal(feature_queue.proxy_view(z, then, then), z)


def test_it_starts_empty_and_an_empty_slot_is_finite():
    queue = feature_queue.init(5, 3, with_proxies=True)
    assert queue.labels.tolist() == [-1] * 5
    moved = feature_queue.view(queue, jnp.ones((5, 3)))
    assert np.all(np.isfinite(moved))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("size", [1, 4, 7, 20])
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_it_wraps_over_its_end_like_a_deque(size, batch, jit):
    push = jax.jit(feature_queue.push) if jit else feature_queue.push
    queue, slots = feature_queue.init(size, 3, with_proxies=True), [-1] * size
    written = 0
    for step in range(8):
        z, labels = rows(batch, start=step * batch)
        queue = push(queue, z, labels, -z)
        for label in labels.tolist():
            slots[written % size] = label
            written += 1
        assert queue.labels.tolist() == slots
        assert int(queue.cursor) == written % size
        filled = np.array(slots) >= 0
        numbers = np.array(slots, np.float32)[filled, None] * np.ones(3, np.float32)
        np.testing.assert_array_equal(queue.z[filled], numbers)
        np.testing.assert_array_equal(queue.proxies[filled], -numbers)


def test_rows_without_a_label_do_not_enter():
    queue = feature_queue.init(4, 3, with_proxies=False)
    z, _ = rows(5)
    queue = feature_queue.push(queue, z, jnp.array([7, -1, 8, -1, 9]))
    assert queue.labels.tolist() == [7, 8, 9, -1]
    assert queue.z[:, 0].tolist() == [0.0, 2.0, 4.0, 0.0]
    assert int(queue.cursor) == 3
    nobody = feature_queue.push(queue, z, jnp.full(5, -1))
    for got, want in zip(*map(jax.tree.leaves, (nobody, queue)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_no_gradient_comes_through():
    queue = feature_queue.init(4, 3, with_proxies=True)
    _, labels = rows(2)

    def total(z, proxies, now):
        pushed = feature_queue.push(queue, z, labels, proxies)
        return jnp.sum(feature_queue.view(pushed, now))

    ones = jnp.ones((2, 3))
    grads = jax.grad(total, argnums=(0, 1, 2))(ones, ones, jnp.ones((4, 3)))
    assert not any(np.any(grad) for grad in grads)


def test_proxies_are_given_where_the_queue_keeps_them():
    z, labels = rows(2)
    with pytest.raises(ValueError, match="proxies: missing"):
        feature_queue.push(feature_queue.init(4, 3, with_proxies=True), z, labels)
    plain = feature_queue.init(4, 3, with_proxies=False)
    with pytest.raises(ValueError, match="proxies: given"):
        feature_queue.push(plain, z, labels, z)
    with pytest.raises(ValueError, match="proxies_now: given"):
        feature_queue.view(plain, z)
