"""The pair plan: pairs in every batch, every image about once, fair chances."""

import numpy as np
import pytest

from qface_jax.data_pipelines.stream import pair_plan
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.errors import DataError


def labels_of(sizes, seed=0):
    """So many records of each identity, in no order."""
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    return np.random.default_rng(seed).permutation(labels)


def uneven(identities=300, seed=0):
    """Many identities of few images, few of many, some of one."""
    sizes = np.random.default_rng(seed).geometric(0.12, identities)
    sizes[:3] = 150, 90, 1
    return sizes


def epoch_of(plan, number=0):
    """The records of an epoch, [steps, batch_size]."""
    steps = range(number * plan.steps_per_epoch, (number + 1) * plan.steps_per_epoch)
    return np.stack([plan.records(step) for step in steps])


@pytest.mark.parametrize("each", [2, 4])
@pytest.mark.parametrize("batch_size", [8, 64, 256])
def test_every_batch_has_each_of_its_identities_so_often(batch_size, each):
    labels = labels_of(uneven())
    plan = PairPlan(labels, batch_size=batch_size, seed=3, images_per_identity=each)
    for number in range(3):
        rows = labels[epoch_of(plan, number)].reshape(-1, batch_size // each, each)
        assert np.all(rows == rows[..., :1])
        owners = np.sort(rows[..., 0], axis=1)
        assert np.all(np.diff(owners, axis=1) > 0)


def test_every_image_is_drawn_about_once():
    sizes = uneven()
    labels = labels_of(sizes)
    plan = PairPlan(labels, batch_size=32, seed=3)
    assert plan.left_out_identities == np.sum(sizes == 1)
    assert plan.left_out_images == np.sum(sizes == 1)
    assert plan.images + plan.left_out_images == len(labels)
    drawn = np.zeros(len(labels), int)
    for number in range(4):
        records = epoch_of(plan, number).reshape(-1)
        assert len(records) == len(np.unique(records)) == plan.images_per_epoch
        drawn[records] += 1
    # An odd image of each identity waits, and less than a batch at the end.
    odd = np.sum(sizes % 2 * (sizes > 1))
    assert plan.images - odd - plan.images_per_epoch < 32
    assert not drawn[sizes[labels] == 1].any()
    # Another one waits in another epoch.
    assert np.all(drawn[sizes[labels] > 8] > 0)


def test_an_identity_too_large_for_the_epoch_is_in_every_batch():
    labels = labels_of([1000, *[10] * 30])
    plan = PairPlan(labels, batch_size=16, seed=0)
    # s batches of 8 identities: 30 * 5 + s = 8 s, so 21 of them can be filled.
    assert plan.steps_per_epoch == 21
    rows = labels[epoch_of(plan)]
    assert np.all(np.sum(rows == 0, axis=1) == 2)


def test_all_identities_in_every_batch():
    labels = labels_of([6, 6, 6, 6])
    plan = PairPlan(labels, batch_size=8, seed=0)
    assert plan.steps_per_epoch == 3
    assert np.all(np.sort(labels[epoch_of(plan)], axis=1) == np.repeat(np.arange(4), 2))


def test_the_chance_is_proportional_to_what_is_left():
    """Of each identity, at each step, over many epochs."""
    sizes = np.array([2, 2, 4, 6, 8, 8, 10, 14, 16, 14] + [2] * 8)
    labels = labels_of(sizes)
    plan = PairPlan(labels, batch_size=10, seed=7)
    pairs, steps, epochs = sizes // 2, plan.steps_per_epoch, 3000
    assert pairs.max() < steps
    left = np.broadcast_to(pairs, (epochs, len(sizes))).copy()
    owners = np.stack([labels[epoch_of(plan, e)[:, ::2]] for e in range(epochs)])
    surplus, variance = np.zeros(len(sizes)), np.zeros(len(sizes))
    for step in range(steps // 2):
        chance = 5 * left / (pairs.sum() - 5 * step)
        there = np.any(owners[:, step, :, None] == np.arange(len(sizes)), axis=1)
        surplus += np.sum(there - chance, axis=0)
        variance += np.sum(chance * (1 - chance), axis=0)
        left -= there
    assert pairs.sum() % 5 == 0  # so that nothing is cut off at the end
    assert np.all(np.abs(surplus) < 4 * np.sqrt(variance))


def test_everybody_meets_everybody():
    """Identities meet in a batch as often as chance has it, over the epochs."""
    sizes = np.full(24, 6)
    labels = labels_of(sizes)
    plan = PairPlan(labels, batch_size=12, seed=1)
    met, epochs = np.zeros((24, 24)), 500
    for number in range(epochs):
        for row in labels[epoch_of(plan, number)[:, ::2]]:
            met[np.ix_(row, row)] += 1
    met = met[~np.eye(24, dtype=bool)]
    expected = epochs * plan.steps_per_epoch * 6 * 5 / (24 * 23)
    assert abs(met.mean() - expected) < 1e-6 * expected
    assert np.all(np.abs(met - expected) < 5.5 * np.sqrt(expected))


def test_the_pairs_of_an_identity_change():
    labels = labels_of([20] * 20)
    plan = PairPlan(labels, batch_size=10, seed=1)
    pairs = [
        {tuple(sorted(pair)) for pair in epoch_of(plan, e).reshape(-1, 2)}
        for e in range(2)
    ]
    # 20 images of an identity have 19 * 10 pairs, of which an epoch takes 10.
    assert len(pairs[0] & pairs[1]) < 40


def test_it_is_a_function_of_seed_and_step():
    """Whatever was asked before: a restart is arithmetic."""
    labels = labels_of(uneven())
    one, other = (PairPlan(labels, batch_size=32, seed=5) for _ in range(2))
    steps = one.steps_per_epoch
    want = {step: one.records(step) for step in range(0, 3 * steps, 7)}
    for step in sorted(want, key=lambda s: s * 7919 % 1009):
        np.testing.assert_array_equal(other.records(step), want[step])
    changed = PairPlan(labels, batch_size=32, seed=6)
    assert not np.array_equal(changed.records(0), want[0])
    assert not np.array_equal(one.records(steps), want[0])
    assert want[0].dtype == np.int64


def test_the_stream_is_pinned():
    """What a checkpoint goes on with must not change with a version of NumPy."""
    plan = PairPlan(np.arange(1000) * 7 % 60, batch_size=8, seed=5)
    assert plan.records(0).tolist() == [58, 658, 776, 836, 828, 948, 502, 562]
    assert plan.records(10_000).tolist() == [147, 867, 265, 565, 72, 672, 595, 955]


def test_identities_of_many_blocks_are_shuffled_too(monkeypatch):
    """Memory is bounded by shuffling some identities at a time."""
    sizes = uneven()
    labels = labels_of(sizes)
    monkeypatch.setattr(pair_plan, "BLOCK", 64)
    plan = PairPlan(labels, batch_size=32, seed=5)
    records = epoch_of(plan)
    rows = labels[records].reshape(-1, 2)
    assert np.all(rows[:, 0] == rows[:, 1])
    assert len(np.unique(records)) == plan.images_per_epoch


def test_too_few_identities():
    with pytest.raises(DataError, match=r"got 2, expected at least 4 for batches of 8"):
        PairPlan(labels_of([5, 5, 1, 1, 1]), batch_size=8, seed=0)
    with pytest.raises(DataError, match="got 0"):
        PairPlan(np.zeros(0, np.int32), batch_size=8, seed=0)


@pytest.mark.parametrize(
    "change, told",
    [({"batch_size": 7}, "batch_size: got 7"), ({"seed": -1}, "seed: got -1"),
     ({"images_per_identity": 1}, "images_per_identity: got 1"),
     ({"labels": np.array([0.5])}, "labels: got float64"),
     ({"labels": np.array([-1, 0])}, "labels: got -1")],
)  # fmt: skip
def test_refused(change, told):
    with pytest.raises(ValueError, match=told):
        PairPlan(**({"labels": labels_of([4, 4]), "batch_size": 4, "seed": 0} | change))


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="step: got -1"):
        PairPlan(labels_of([4, 4]), batch_size=4, seed=0).records(-1)
