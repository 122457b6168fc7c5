"""Batches by a pair plan: its rows on any hosts, from any step, in two views."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import steps
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.errors import ConfigError

STEPS, BATCH, SEED = 7, 8, 4


@pytest.fixture(scope="module")
def source():
    # 6 identities of 3: an epoch is a batch, and so STEPS of them.
    return SyntheticFaces(identities=6, images_per_identity=3, seed=0)


def plan_of(source):
    return PairPlan(source.labels(), batch_size=BATCH, seed=SEED)


def batches(source, plan="own", **changes):
    arguments = {
        "batch_size": BATCH,
        "recipe": "octuplet",
        "params": base.get_config().degrade.octuplet,
        "seed": SEED,
        "start_step": 0,
        "total_steps": STEPS,
        "plan": plan_of(source) if plan == "own" else plan,
    }
    return list(faces.stream(source, **(arguments | changes)))


@pytest.fixture(scope="module")
def whole(source):
    return batches(source)


def originals(source, records):
    images, labels = source.fetch(records)
    pictures = [np.asarray(Image.open(io.BytesIO(image))) for image in images]
    return np.stack(pictures), labels


def assert_same(got, expected):
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_array_equal(left["images"], right["images"])
        np.testing.assert_array_equal(left["labels"], right["labels"])


def test_two_views_of_pairs(whole):
    assert len(whole) == STEPS
    for batch in whole:
        assert sorted(batch) == ["images", "labels"]
        assert batch["images"].shape == (BATCH, 2, 112, 112, 3)
        assert batch["images"].dtype == np.uint8
        assert batch["labels"].dtype == np.int32
        pairs = batch["labels"].reshape(-1, 2)
        np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
        assert len(set(pairs[:, 0])) == BATCH // 2
        fine = np.abs(np.diff(batch["images"].astype(int), axis=2)).mean((2, 3, 4))
        assert (fine[:, 0] < fine[:, 1]).all()  # first the degraded one


def test_the_rows_are_those_of_the_plan(source, whole):
    plan = plan_of(source)
    params = base.get_config().degrade.octuplet
    params.update({"flip_probability": 0.0, "brightness": 0.0, "saturation": 0.0})
    params.sides = (14,)
    for step, batch in enumerate(batches(source, params=params)):
        pictures, labels = originals(source, plan.records(step))
        np.testing.assert_array_equal(batch["images"][:, 1], pictures)
        np.testing.assert_array_equal(batch["labels"], labels)
        np.testing.assert_array_equal(whole[step]["labels"], labels)
        low = steps.down_up(pictures[0], side=14, antialias=True)
        np.testing.assert_array_equal(batch["images"][0, 0], low)


@pytest.mark.parametrize("start", [1, 4, 6])
def test_a_restart_goes_on_where_the_run_stopped(source, whole, start):
    assert_same(batches(source, start_step=start), whole[start:])


def test_the_stream_does_not_depend_on_the_number_of_hosts(source, whole):
    parts = [batches(source, host=host, hosts=2, start_step=3) for host in range(2)]
    assert all(len(batch["labels"]) == BATCH // 2 for part in parts for batch in part)
    together = [
        {
            key: np.concatenate([part[step][key] for part in parts])
            for key in ("images", "labels")
        }
        for step in range(STEPS - 3)
    ]
    assert_same(together, whole[3:])


def test_the_stream_does_not_depend_on_the_workers(source, whole):
    assert_same(batches(source, workers=1, total_steps=2), whole[:2])


def test_another_seed_draws_other_changes_of_the_same_rows(source, whole):
    (other,) = batches(source, seed=SEED + 1, total_steps=1)
    np.testing.assert_array_equal(other["labels"], whole[0]["labels"])
    assert not np.array_equal(other["images"], whole[0]["images"])


def test_without_a_plan_each_record_is_taken_once(source):
    (batch,) = batches(source, plan=None, batch_size=18, total_steps=1)
    assert np.bincount(batch["labels"]).tolist() == [3] * 6
    assert batch["images"].shape == (18, 2, 112, 112, 3)


def test_a_plan_serves_recipes_of_one_view(source, whole):
    clean = base.get_config().degrade.clean
    single = batches(source, recipe="clean", params=clean)
    assert single[0]["images"].shape == (BATCH, 112, 112, 3)
    for one, pair in zip(single, whole, strict=True):
        np.testing.assert_array_equal(one["labels"], pair["labels"])


def test_an_unknown_recipe_names_those_of_two_views(source):
    with pytest.raises(
        ConfigError, match=r"'blur': unknown; must be one of .*octuplet"
    ):
        batches(source, recipe="blur")
