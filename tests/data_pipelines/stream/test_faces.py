"""The streams: the same from any step and on any hosts, and clear when data is bad."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.errors import ConfigError
from support.kept_source import BATCH, STEPS, Kept, assert_same, batches


@pytest.fixture(scope="module")
def source():
    return Kept(SyntheticFaces(identities=5, images_per_identity=4, seed=0))


@pytest.fixture(scope="module")
def whole(source):
    return batches(source)


def test_shapes_and_types(whole):
    assert len(whole) == STEPS
    for batch in whole:
        assert sorted(batch) == ["images", "labels"]
        assert batch["images"].shape == (BATCH, 112, 112, 3)
        assert batch["images"].dtype == np.uint8
        assert batch["labels"].shape == (BATCH,)
        assert batch["labels"].dtype == np.int32


@pytest.mark.parametrize("start", [1, 2, 5, 6])
def test_a_restart_goes_on_where_the_run_stopped(source, whole, start):
    assert_same(batches(source, start_step=start), whole[start:])


def test_a_finished_run_has_no_batches_left(source):
    assert batches(source, start_step=STEPS) == []


def test_the_stream_does_not_depend_on_the_number_of_hosts(source, whole):
    parts = [batches(source, host=host, hosts=2) for host in range(2)]
    together = [
        {
            key: np.concatenate([part[step][key] for part in parts])
            for key in ("images", "labels")
        }
        for step in range(STEPS)
    ]
    assert_same(together, whole)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_stream_does_not_depend_on_the_workers(source, whole, workers):
    assert_same(batches(source, workers=workers), whole)


def test_a_draw_does_not_depend_on_the_batch_size(source, whole):
    small = batches(source, batch_size=2, total_steps=4)
    rows = np.concatenate([batch["images"] for batch in small])
    np.testing.assert_array_equal(rows, whole[0]["images"])


def test_every_epoch_holds_every_record_once(source):
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    # 20 records, batches of 8: the second epoch begins inside of the third batch.
    seen = batches(source, recipe="clean", params=params, total_steps=5)
    pictures = [image.tobytes() for batch in seen for image in batch["images"]]
    assert len(set(pictures[:20])) == 20
    assert set(pictures[:20]) == set(pictures[20:])
    assert pictures[:20] != pictures[20:]


def test_labels_belong_to_their_pictures(source):
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    of = {
        np.asarray(Image.open(io.BytesIO(image))).tobytes(): label
        for image, label in zip(source.images, source.all_labels, strict=True)
    }
    for batch in batches(source, recipe="clean", params=params):
        for image, label in zip(batch["images"], batch["labels"], strict=True):
            assert of[image.tobytes()] == label


def test_another_seed_is_another_stream(source, whole):
    other = batches(source, seed=5)
    assert not np.array_equal(other[0]["images"], whole[0]["images"])


@pytest.fixture(scope="module")
def paired(source):
    return batches(source, "qgface", beside=base.get_config().degrade.clean)


def test_a_pair_is_the_single_view_and_a_clean_one(source, paired):
    single = batches(source, "qgface")
    plain = base.get_config().degrade.clean
    plain.flip_probability = 0.0
    originals = batches(source, "clean", params=plain)
    for pair, q, original in zip(paired, single, originals, strict=True):
        assert pair["images"].shape == (BATCH, 2, 112, 112, 3)
        assert pair["images"].dtype == np.uint8
        np.testing.assert_array_equal(pair["images"][:, 0], q["images"])
        np.testing.assert_array_equal(pair["labels"], q["labels"])
        for k, expected in zip(pair["images"][:, 1], original["images"], strict=True):
            mirrored = np.array_equal(k, expected[:, ::-1])
            assert mirrored or np.array_equal(k, expected)


def test_the_views_of_a_pair_are_mirrored_independently(source):
    clean = base.get_config().degrade.clean
    (whole,) = batches(
        source, "clean", batch_size=400, total_steps=1, params=clean, beside=clean
    )
    clean.flip_probability = 0.0
    (original,) = batches(source, "clean", batch_size=400, total_steps=1, params=clean)
    flipped = (whole["images"] != original["images"][:, None]).any(axis=(2, 3, 4))
    np.testing.assert_allclose(flipped.mean(axis=0), 0.5, atol=0.1)
    assert abs(np.corrcoef(flipped.T)[0, 1]) < 0.15


def test_pairs_follow_the_settings_of_the_clean_recipe(source):
    clean = base.get_config().degrade.clean
    clean.flip_probability = 1.0
    (mirrored,) = batches(source, "clean", total_steps=1, beside=clean)
    clean.flip_probability = 0.0
    (plain,) = batches(source, "clean", total_steps=1, beside=clean)
    np.testing.assert_array_equal(
        mirrored["images"][:, 1, :, ::-1], plain["images"][:, 1]
    )
    np.testing.assert_array_equal(mirrored["images"][:, 0], plain["images"][:, 0])


def test_pairs_do_not_depend_on_hosts_restarts_and_batch_size(source, paired):
    clean = base.get_config().degrade.clean
    parts = [
        batches(source, "qgface", beside=clean, host=host, hosts=2, start_step=5)
        for host in range(2)
    ]
    together = [
        {
            key: np.concatenate([part[step][key] for part in parts])
            for key in ("images", "labels")
        }
        for step in range(STEPS - 5)
    ]
    assert_same(together, paired[5:])
    small = batches(source, "qgface", beside=clean, batch_size=2, total_steps=4)
    rows = np.concatenate([batch["images"] for batch in small])
    np.testing.assert_array_equal(rows, paired[0]["images"])


def test_unknown_recipes_are_refused(source):
    with pytest.raises(ConfigError, match=r"degradation 'blur': unknown; must be one"):
        faces.stream(
            source,
            batch_size=8,
            recipe="blur",
            params=base.get_config().degrade.clean,
            seed=0,
            start_step=0,
            total_steps=1,
        )


def test_batches_that_hosts_cannot_share_are_refused(source):
    with pytest.raises(ConfigError, match=r"data\.batch_size: got 8"):
        batches(source, hosts=3)
