"""Partial FC: which classes a step sees, and that all others are left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses.margins.margin import build_margin
from qface_jax.objectives import build
from qface_jax.objectives.classification import margin_loss
from qface_jax.sharded import class_sample, classifier, parallel, permutation
from qface_jax.sharded.classifier import CENTRES
from qface_jax.sharded.parallel import DATA
from qface_jax.train import state
from support.closeness import assert_close_in_norm
from support.small_run import small
from support.small_step import LINEAR, step_of

ROWS, CLASSES, BLOCKS, B, D = 256, 250, 16, 32, 8


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 1000])
def test_it_is_a_permutation_with_an_inverse(n):
    keys = permutation.draw_keys(jax.random.key(n))
    index = jnp.arange(n)
    there = permutation.permute(index, keys, n)
    assert sorted(there.tolist()) == list(range(n))
    np.testing.assert_array_equal(permutation.unpermute(there, keys, n), index)


def test_every_number_is_drawn_equally_often():
    keys = permutation.draw_keys(jax.random.key(0), (4000,))
    firsts = jax.vmap(lambda k: permutation.permute(jnp.arange(5), k, 20))(keys)
    counts = np.bincount(np.asarray(firsts).ravel(), minlength=20)
    # 1,000 expected each, deviation about 27.
    assert counts.min() > 850
    assert counts.max() < 1150


def labels_of_a_batch(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, B).astype(np.int32)
    labels[1] = labels[0]
    labels[5] = -1
    return jnp.asarray(labels)


def draw(devices, labels, rate=0.25, seed=3):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    sample = jax.jit(
        lambda y, key: class_sample.sample_classes(
            y, key, mesh=mesh, rows=ROWS, num_classes=CLASSES, blocks=BLOCKS, rate=rate
        )
    )(labels, jax.random.key(seed))
    return mesh, sample


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_the_classes_of_the_batch_are_in_once(devices):
    labels = labels_of_a_batch()
    _, sample = draw(devices, labels)
    classes = np.asarray(sample.classes)
    seen = classes[classes >= 0]
    assert len(set(seen)) == len(seen)
    wanted = set(np.asarray(labels).tolist()) - {-1}
    assert wanted <= set(seen.tolist())
    assert len(seen) <= BLOCKS * 4 + len(wanted)
    assert len(seen) >= BLOCKS * 4 - (ROWS - CLASSES)
    assert max(seen) < CLASSES
    # Each own class is found by exactly one device, at the place it says.
    places, per_device = np.asarray(sample.places), classes.reshape(devices, -1)
    for column, label in enumerate(np.asarray(labels)):
        holders = np.flatnonzero(places[:, column] >= 0)
        if label < 0:
            assert len(holders) == 0
            continue
        (holder,) = holders
        assert per_device[holder, places[holder, column]] == label


def test_every_number_of_devices_draws_the_same_classes():
    labels = labels_of_a_batch(1)
    sets = []
    for devices in (1, 2, 8):
        classes = np.asarray(draw(devices, labels)[1].classes)
        sets.append(set(classes[classes >= 0].tolist()))
    assert sets[0] == sets[1] == sets[2]
    other = np.asarray(draw(1, labels, seed=4)[1].classes)
    assert set(other[other >= 0].tolist()) != sets[0]


def test_put_writes_the_sampled_rows_and_no_other():
    labels = labels_of_a_batch(2)
    mesh, sample = draw(8, labels)
    leaf = jnp.arange(ROWS * 2, dtype=jnp.float32).reshape(ROWS, 2)
    rows = class_sample.take(sample, leaf, mesh)
    counts = np.asarray(sample.classes) >= 0
    np.testing.assert_array_equal(
        np.asarray(rows)[counts], np.asarray(leaf)[np.asarray(sample.classes)[counts]]
    )
    after = np.asarray(class_sample.put(sample, leaf, -1.0 - rows, mesh))
    touched = np.zeros(ROWS, bool)
    touched[np.asarray(sample.classes)[counts]] = True
    np.testing.assert_array_equal(after[~touched], np.asarray(leaf)[~touched])
    np.testing.assert_array_equal(after[touched], -1.0 - np.asarray(leaf)[touched])


def sampled_loss(devices, name, rate):
    """Loss and gradients with sampled classes, and which were sampled."""
    rng = np.random.default_rng(5)
    features = jnp.asarray(rng.normal(size=(B, D)) * 5, jnp.float32)
    centres = jnp.asarray(rng.normal(size=(ROWS, D)), jnp.float32)
    labels = labels_of_a_batch()
    margin = build_margin(name)
    mesh, sample = draw(devices, labels, rate)
    spec = classifier.ClassifierSpec(margin.negative, 64.0, CLASSES, 7, mesh)

    def loss(features, centres):
        rows = class_sample.take(sample, centres, mesh)
        return margin_loss(
            features, rows, labels, margin.init(), margin=margin, spec=spec,
            sample=sample,
        )[0]  # fmt: skip

    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(features, centres)
    return value, grads, np.asarray(sample.classes), (features, centres, labels, margin)


@pytest.mark.parametrize("name", ["adaface", "curricularface", "magface"])
def test_the_loss_is_that_of_the_sampled_classes(name):
    value, grads, classes, (features, centres, labels, margin) = sampled_loss(
        8, name, 0.25
    )
    kept = np.unique(classes[classes >= 0])
    number = np.full(CLASSES + 1, -1, np.int32)
    number[kept] = np.arange(len(kept))
    mesh = parallel.make_mesh(jax.devices()[:1])
    spec = classifier.ClassifierSpec(margin.negative, 64.0, len(kept), 512, mesh)

    def plain(features, centres):
        few = centres[kept]
        return margin_loss(
            features, few, jnp.asarray(number[np.asarray(labels)]), margin.init(),
            margin=margin, spec=spec,
        )[0]  # fmt: skip

    plain_grads = jax.jit(jax.value_and_grad(plain, argnums=(0, 1)))
    want, want_grads = plain_grads(features, centres)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert_close_in_norm(grads, want_grads, 1e-5)


def test_one_and_eight_devices_agree():
    one, eight = sampled_loss(1, "adaface", 0.1), sampled_loss(8, "adaface", 0.1)
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-5)
    assert_close_in_norm(eight[1], one[1], 1e-5)


def linear_steps(rate, optimizer):
    """Three steps of a linear backbone: the states before and after, classes seen."""
    config = small(
        f"classifier.sample_rate={rate}",
        f"optim.name={optimizer}",
        "classifier.pad_to=16",
    )
    step, before, batch, key = step_of(config, LINEAR, CLASSES, 2)
    mesh = parallel.make_mesh(jax.devices()[:2])
    draw_sample = jax.jit(build(config, CLASSES, mesh).sample)
    seen, after = set(), before
    for number in range(3):
        sample_key = jax.random.split(jax.random.fold_in(key, number))[1]
        sample = draw_sample(batch, sample_key)
        if sample is not None:
            classes = np.asarray(sample.classes)
            seen |= set(classes[classes >= 0].tolist())
        after, _ = step(after, batch, key)
    return before, after, seen


# Of sgd test_unseen_classes has the steps.
@pytest.mark.parametrize("optimizer", ["adamw", "adagrad"])
def test_unsampled_classes_and_their_optimizer_state_are_untouched(optimizer):
    with jax.numpy_dtype_promotion("standard"):
        before, after, seen = linear_steps(0.1, optimizer)
    others = np.array(sorted(set(range(ROWS)) - seen))
    assert len(others) > 50
    assert len(seen) > B - 2
    pairs = zip(
        jax.tree_util.tree_leaves_with_path((before.params, before.opt_state)),
        jax.tree.leaves((after.params, after.opt_state)),
        strict=True,
    )
    cut = 0
    for (path, old), new in pairs:
        if not state.is_under((CENTRES,), path, old):
            continue
        cut += 1
        np.testing.assert_array_equal(np.asarray(old)[others], np.asarray(new)[others])
        changed = np.any(np.asarray(old) != np.asarray(new), axis=1)
        assert set(np.flatnonzero(changed)) <= seen
        assert changed.sum() > 10
    assert cut >= 2


def test_rate_one_is_the_full_softmax():
    with jax.numpy_dtype_promotion("standard"):
        _, after, seen = linear_steps(1.0, "sgd")
        _, near, _ = linear_steps(0.9999, "sgd")
    assert seen == set()  # no sample is drawn at all
    # A share that rounds up to every row sees the same classes, in another order.
    assert_close_in_norm(near, after, 1e-5, floor=0.1)


def test_the_mesh_axis_is_the_one_of_parallel():
    assert parallel.make_mesh().axis_names == (DATA,)
