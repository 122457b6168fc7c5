"""The queue cut over devices: the plain queue's results, its ring, its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from qface_jax.losses import contrast
from qface_jax.sharded import feature_queue, parallel, sharded_queue
from support.closeness import assert_close_in_norm

DIM, CLASSES, PADDED = 8, 20, 24


def spec_of(devices, size, *, mask=True, chunk=3):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return sharded_queue.QueueSpec(
        size=size, scale=16.0, supervised_mask=mask, chunk=chunk, mesh=mesh
    )


def unit(rng, rows):
    z = rng.normal(size=(rows, DIM))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def batch(rng, rows):
    labels = rng.integers(0, CLASSES, rows).astype(np.int32)
    labels[0] = -1
    return unit(rng, rows), labels


def centres_of(rng):
    """Raw centres; those behind the last class are zeros."""
    centres = 2.0 * rng.normal(size=(PADDED, DIM)).astype(np.float32)
    centres[CLASSES:] = 0.0
    return jnp.asarray(centres)


def on_devices(spec, queue):
    places = jax.tree.map(
        lambda place: NamedSharding(spec.mesh, place), sharded_queue.PLACES
    )
    return jax.device_put(queue, places)


def plain_queue(queue, size):
    """The slots of a padded queue."""
    return feature_queue.FeatureQueue(
        queue.z[:size], queue.labels[:size], queue.proxies[:size], queue.cursor
    )


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("size", [5, 24, 30])
def test_it_is_filled_like_the_plain_queue(size, devices):
    """Also over the end, by batches larger than it, and never in padding rows."""
    spec = spec_of(devices, size)
    rows = -(-size // 8) * 8
    whole = feature_queue.init(rows, DIM, with_proxies=True)
    cut, plain = (
        on_devices(spec, whole),
        feature_queue.init(size, DIM, with_proxies=True),
    )
    push = jax.jit(sharded_queue.push, static_argnums=0)
    rng = np.random.default_rng(size)
    for _ in range(6):
        (z, labels), centres = batch(rng, 8), centres_of(rng)
        cut = push(spec, cut, jnp.asarray(z), jnp.asarray(labels), centres)
        plain = feature_queue.push(
            plain, jnp.asarray(z), jnp.asarray(labels), centres[labels]
        )
        got = plain_queue(jax.device_get(cut), size)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(plain), strict=True):
            np.testing.assert_array_equal(a, b)
        assert np.all(np.asarray(cut.labels)[size:] == feature_queue.EMPTY)
    filled = float(sharded_queue.fill(spec, cut))
    np.testing.assert_allclose(filled, np.mean(np.asarray(plain.labels) >= 0))


def filled_queue(rng, size, rows, entries):
    """A padded queue with so many entries, and the centres of a later time."""
    queue = feature_queue.init(rows, DIM, with_proxies=True)
    labels = rng.integers(0, CLASSES, entries).astype(np.int32)
    then, now = centres_of(rng), centres_of(rng)
    if entries:
        z = jnp.asarray(unit(rng, entries))
        queue = feature_queue.push(
            queue, z, jnp.asarray(labels), then[labels], size=size
        )
    return queue, now


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(
    "devices, chunk, entries", [(1, 100, 30), (8, 3, 30), (8, 2, 13), (8, 4, 0)]
)
def test_loss_and_gradient_are_those_of_the_view(devices, chunk, entries, mask):
    rng = np.random.default_rng(entries)
    spec = spec_of(devices, 30, mask=mask, chunk=chunk)
    queue, centres = filled_queue(rng, 30, 32, entries)
    q, k = (20 * jnp.asarray(unit(rng, 16)) for _ in range(2))
    labels = jnp.asarray(batch(rng, 16)[1])

    def cut(q, k, z, centres):
        own = queue.replace(z=z)
        loss, positive, negative = sharded_queue.contrastive_loss(
            spec, q, k, own, labels, centres
        )
        return jnp.sum(loss), (loss, positive, negative)

    def plain(q, k, z, centres):
        own = plain_queue(queue.replace(z=z), 30)
        view = feature_queue.view(own, centres[own.labels])
        return jnp.sum(
            contrast.contrastive_loss(
                q, k, view, labels, own.labels, scale=16.0, supervised_mask=mask
            )
        ), view

    arguments = (q, k, queue.z, centres)
    over = (0, 1, 2, 3)
    (_, found), got = jax.jit(jax.value_and_grad(cut, over, has_aux=True))(*arguments)
    (total, view), want = jax.jit(jax.value_and_grad(plain, over, has_aux=True))(
        *arguments
    )
    np.testing.assert_allclose(jnp.sum(found[0]), total, rtol=1e-5, atol=1e-5)
    assert_close_in_norm(got[0], want[0], 1e-5)
    assert not any(np.any(grad) for grad in got[1:])
    z, view = np.asarray(contrast.unit(q), np.float64), np.asarray(view, np.float64)
    counts = np.asarray(
        contrast.negative_entries(labels, queue.labels[:30], mask), np.float64
    )
    sums = np.sum(np.clip(z @ view.T, -1, 1) * counts, axis=1)
    mean = sums / np.maximum(counts.sum(axis=1), 1)
    np.testing.assert_allclose(found[2], mean, atol=1e-6)
    own = np.asarray(contrast.unit(k), np.float64)
    np.testing.assert_allclose(found[1], np.sum(z * own, axis=1), atol=1e-6)


def test_centres_stored_in_bfloat16_are_followed():
    rng = np.random.default_rng(0)
    queue, centres = filled_queue(rng, 30, 32, 30)
    q, k = (jnp.asarray(unit(rng, 16)) for _ in range(2))
    labels = jnp.asarray(batch(rng, 16)[1])
    narrow = centres.astype(jnp.bfloat16)
    run = jax.jit(sharded_queue.contrastive_loss, static_argnums=0)
    got = run(spec_of(8, 30), q, k, queue, labels, narrow)
    want = run(spec_of(8, 30), q, k, queue, labels, narrow.astype(jnp.float32))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_is_a_queue_without_proxies():
    rng = np.random.default_rng(1)
    (z, labels), centres = batch(rng, 16), centres_of(rng)
    z, labels = jnp.asarray(z), jnp.asarray(labels)
    queue = feature_queue.FeatureQueue(z, labels, None, jnp.int32(0))
    run = jax.jit(sharded_queue.contrastive_loss, static_argnums=0)
    loss, _, _ = run(spec_of(8, 16), z, z, queue, labels, centres)
    want = contrast.contrastive_loss(z, z, z, labels, labels, scale=16.0)
    np.testing.assert_allclose(loss, want, rtol=1e-5, atol=1e-6)


def test_no_device_holds_the_view_or_all_cosines():
    """Above its own rows of the queue a device needs parts of them only."""
    rows, dim, classes, images = 1 << 18, 16, 1 << 18, 64
    spec = spec_of(8, rows, chunk=1024)
    f32, i32 = jnp.float32, jnp.int32

    def shape(*size, dtype=f32):
        rows = parallel.shardings(spec.mesh).rows
        return jax.ShapeDtypeStruct(size, dtype, sharding=rows)

    queue = feature_queue.FeatureQueue(
        shape(rows, dim), shape(rows, dtype=i32), shape(rows, dim),
        jax.ShapeDtypeStruct((), i32),
    )  # fmt: skip

    def total(q, k, queue, labels, centres):
        loss, _, _ = sharded_queue.contrastive_loss(spec, q, k, queue, labels, centres)
        return jnp.sum(loss)

    arguments = (
        shape(images, dim), shape(images, dim), queue, shape(images, dtype=i32),
        shape(classes, dim),
    )  # fmt: skip
    compiled = jax.jit(jax.grad(total)).lower(*arguments).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    own_entries, own_cosines = rows // 8 * dim * 4, images * rows // 8 * 4
    assert temporary < own_entries and temporary < own_cosines
