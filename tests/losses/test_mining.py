"""Mining over devices: plain, vmap, pmap and shard_map agree, and what it holds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses import distance, mining, octuplet
from qface_jax.sharded import octuplet as sharded_octuplet
from qface_jax.sharded import parallel
from support.closeness import assert_close_in_norm
from support.octuplet_case import batch, distances

DEVICES = 8
METRICS = distance.METRICS


def case(images=32):
    """Three images of an identity, single ones and padding among the pairs."""
    high, low, labels = batch(identities=images // 2)
    labels[:3] = [0, 0, 0]
    labels[7] = -1
    return [jnp.asarray(a) for a in (high, low, labels)]


def on_devices(arrays):
    return [a.reshape(DEVICES, -1, *a.shape[1:]) for a in arrays]


def flat(tree):
    return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), tree)


def mesh_of(devices):
    return parallel.make_mesh(jax.devices()[:devices])


def wanted(anchors, others, labels, metric):
    """The hardest pairs, one anchor at a time."""
    dist = distances(anchors, others, metric, False)
    labels, rows = np.asarray(labels), np.arange(len(labels))
    for row, label in enumerate(labels):
        positives = rows[(labels == label) & (rows != row) & (labels >= 0)]
        negatives = rows[(labels != label) & (labels >= 0)]
        yield (
            positives[np.argmax(dist[row, positives])] if len(positives) else 0,
            negatives[np.argmin(dist[row, negatives])] if len(negatives) else 0,
            len(positives) > 0,
            len(negatives) > 0,
        )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("chunk", [5, 512])
def test_the_hardest_are_chosen(metric, chunk):
    high, low, labels = case()
    if metric == "cosine":
        high, low = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (high, low))
    found = jax.jit(partial(mining.hardest, metric=metric, chunk=chunk))(
        high, low, labels
    )
    want = np.array(list(wanted(high, low, labels, metric)))
    for got, column in zip(found, want.T, strict=True):
        np.testing.assert_array_equal(got, column)


def test_nobody_to_choose():
    high, low, _ = case()
    for labels in (jnp.arange(32), jnp.zeros(32, jnp.int32), jnp.full(32, -1)):
        found = jax.jit(mining.hardest)(high, low, labels)
        if labels[0] == labels[1]:
            assert not np.any(found.has_negative) and not np.any(found.negative)
        if labels[0] != labels[1] or labels[0] < 0:
            assert not np.any(found.has_positive) and not np.any(found.positive)


def test_all_drivers_choose_the_same():
    """Also where a device's anchors are no multiple of the chunk."""
    arrays = case()
    kernel = partial(mining.hardest, axis_name="data", chunk=3)
    want = jax.jit(mining.hardest)(*arrays)
    vmapped = jax.jit(jax.vmap(kernel, axis_name="data"))(*on_devices(arrays))
    pmapped = mining.pmapped(chunk=3)(*on_devices(arrays))
    sharded = jax.jit(partial(sharded_octuplet.hardest, mesh_of(DEVICES), chunk=3))
    for found in (flat(vmapped), flat(pmapped), sharded(*arrays)):
        for got, column in zip(found, want, strict=True):
            np.testing.assert_array_equal(got, column)


def weighted(found):
    """One number in which every distance of every image has its own weight."""
    places = jnp.arange(found.losses.size, dtype=jnp.float32) + 1
    weights = places.reshape(found.losses.shape)
    having = (found.has_positive & found.has_negative)[..., None]
    return jnp.sum(jnp.where(having, weights * (found.losses + found.positive), 0.0))


def test_all_drivers_have_the_same_values_and_gradients():
    """Gradients reach both ends of a pair, on whichever device they are."""
    high, low, labels = case()
    settings = {"margin": 0.5, "normalize": True}
    kernel = partial(octuplet.triplets, **settings)
    over_axis = partial(kernel, axis_name="data")

    def by(mapped):
        def total(high, low):
            found = mapped(*on_devices((high, low, labels)))
            return weighted(
                jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)
            ), found.losses.reshape(-1, 4)

        return total

    def by_mesh(high, low):
        found = sharded_octuplet.triplets(
            mesh_of(DEVICES), high, low, labels, **settings
        )
        return weighted(found), found.losses

    def by_itself(high, low):
        found = kernel(high, low, labels)
        return weighted(found), found.losses

    def run(total, compiled=True):
        grads = jax.value_and_grad(total, (0, 1), has_aux=True)
        return (jax.jit(grads) if compiled else grads)(high, low)

    (want, want_losses), want_grads = run(by_itself)
    drivers = (
        run(by(jax.vmap(over_axis, axis_name="data"))),
        run(by(jax.pmap(over_axis, axis_name="data")), compiled=False),
        run(by_mesh),
    )
    for (value, losses), grads in drivers:
        np.testing.assert_allclose(value, want, rtol=1e-5)
        np.testing.assert_allclose(losses, want_losses, rtol=1e-5, atol=1e-5)
        assert_close_in_norm(grads, want_grads, 1e-5)


def test_one_device_has_the_loss_of_eight():
    high, low, labels = case()

    def step(devices):
        loss = partial(sharded_octuplet.octuplet, mesh_of(devices), margin=5.0)
        grads = jax.value_and_grad(loss, (0, 1), has_aux=True)
        return jax.device_get(jax.jit(grads)(high, low, labels))

    one, eight = step(1), step(DEVICES)
    want = jax.jit(partial(octuplet.octuplet_loss, margin=5.0))(high, low, labels)
    np.testing.assert_allclose(one[0][0], want, rtol=1e-5)
    assert set(one[0][1]) >= {"loss_hhh", "active_lll", "without_positive"}
    assert_close_in_norm(eight, one, 1e-5)


def memory(images, dim):
    """Bytes beside arguments and results, and the compiled program, on 8 devices."""
    rows = parallel.shardings(mesh_of(DEVICES)).rows
    shape = partial(jax.ShapeDtypeStruct, sharding=rows)
    features = shape((images, dim), jnp.float32)

    def loss(high, low, labels):
        return sharded_octuplet.octuplet(
            mesh_of(DEVICES), high, low, labels, margin=5.0
        )[0]

    arguments = (features, features, shape((images,), jnp.int32))
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes, compiled.as_text()


def test_no_device_holds_more_than_its_own_rows():
    """At 4,096 images: less than [b / devices, 2b], all that is gathered included."""
    images, dim = 4096, 64
    temporary, text = memory(images, dim)
    assert temporary < images // DEVICES * 2 * images * 4
    assert f"[{images},{images}]" not in text and f"[{images},{2 * images}]" not in text
