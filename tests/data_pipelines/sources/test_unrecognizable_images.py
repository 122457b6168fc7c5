"""Unrecognizable images: which they are, on which host, and how they are shown."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.data_pipelines.sources.unrecognizable_images import open_unrecognizable
from qface_jax.data_pipelines.stream import decoding
from qface_jax.data_pipelines.tools import preview
from qface_jax.errors import ConfigError, DataError
from qface_jax.launch import main
from qface_jax.tables import RECIPES

IMAGES = 11


def configured(**changes):
    config = base.get_config()
    config.seed = 3
    config.data.synthetic.update(identities=5, images_per_identity=4)
    config.recognizability.ui_images = IMAGES
    config.recognizability.update(changes)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("uis")
    (root / "deep").mkdir()
    for level in range(IMAGES):
        place = root / "deep" if level % 2 else root
        Image.new("RGB", (9, 9), (20 * level,) * 3).save(place / f"{level:02}.png")
    return root


def given(folder, **changes):
    return configured(ui_path=str(folder), **changes)


def opened(config):
    return open_unrecognizable(config, training_source(config))


def valid_images(batches):
    return np.concatenate([images[valid] for images, valid in batches])


@pytest.fixture(scope="module")
def made():
    return valid_images(opened(configured()).batches(IMAGES))


def test_made_ones_are_of_the_first_records_of_the_run(made):
    from qface_jax.data_pipelines.stream import order

    config = configured()
    source = training_source(config)
    taken = order.record_indices(
        tf.range(IMAGES, dtype=tf.int64), seed=3, num_records=len(source)
    )
    encoded, _ = source.fetch(taken.numpy())
    for place, image in enumerate(encoded[:4]):
        by_hand = RECIPES["unrecognizable"].draw(
            decoding.decode(tf.constant(image)),
            tf.constant([-4, place], tf.int64),
            config.degrade.unrecognizable,
        )
        np.testing.assert_array_equal(made[place], by_hand)


def test_made_ones_are_fixed_by_the_seed(made):
    again = valid_images(opened(configured()).batches(4))
    np.testing.assert_array_equal(again, made)
    config = configured()
    config.seed = 4
    other = valid_images(opened(config).batches(4))
    assert not np.array_equal(other, made)


def test_there_are_no_more_than_training_images():
    images = opened(configured(ui_images=2048))
    assert images.count == 20
    assert images.describe() == (
        "20 unrecognizable images made of training images by degrade.unrecognizable"
    )


@pytest.mark.parametrize("kind", ["made", "given"])
@pytest.mark.parametrize(("batch_size", "hosts"), [(4, 2), (8, 4), (32, 4), (11, 1)])
def test_hosts_share_every_batch(folder, kind, batch_size, hosts):
    images = opened(configured() if kind == "made" else given(folder))
    whole = valid_images(images.batches(IMAGES))
    by_host = [list(images.batches(batch_size, host, hosts)) for host in range(hosts)]
    assert {len(batches) for batches in by_host} == {-(-IMAGES // batch_size)}
    found = []
    for parts in zip(*by_host, strict=True):
        for pictures, valid in parts:
            assert pictures.shape == (batch_size // hosts, 112, 112, 3)
            assert not pictures[~valid].any()
            found.append(pictures[valid])
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert sum(map(len, found)) == IMAGES


def test_a_folder_is_taken_whole_or_evenly_spread(folder):
    images = opened(given(folder))
    assert images.describe() == f"11 unrecognizable images of {folder}"
    whole = valid_images(images.batches(4))
    levels = [*range(0, IMAGES, 2), *range(1, IMAGES, 2)]  # sorted by path
    np.testing.assert_array_equal(whole[:, 50, 50, 0], [20 * n for n in levels])
    some = opened(given(folder, ui_images=3))
    assert some.describe() == f"3 of the 11 unrecognizable images of {folder}"
    np.testing.assert_array_equal(valid_images(some.batches(2)), whole[[0, 5, 10]])


def test_the_first_bad_file_is_named(folder, tmp_path):
    (tmp_path / "a.png").write_bytes((folder / "00.png").read_bytes())
    for name in ("b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    images = opened(given(tmp_path))
    with pytest.raises(DataError, match=r"b\.jpg: not a picture, .*mend it"):
        list(images.batches(8))


def test_a_bad_training_image_is_named():
    config = configured()
    source = training_source(config)
    fetch = source.fetch
    source.fetch = lambda indices: ([b"rubbish"] * len(indices), fetch(indices)[1])
    with pytest.raises(DataError, match="not a picture, or a damaged one: got 7 bytes"):
        list(open_unrecognizable(config, source).batches(8))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((0, 0, 1), "batch_size: got 0"),
        ((5, 0, 2), "batch_size: got 5, must be a positive multiple of the 2 hosts"),
        ((4, 2, 2), "host: got 2 of 2"),
    ],
)
def test_nonsense_is_refused(place, message):
    with pytest.raises(ValueError, match=message):
        opened(configured()).batches(*place)


def tiles(path, columns):
    """The first pictures of a preview's first row, exact."""
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB"))[:, :columns]


def test_the_preview_of_made_ones_holds_those_of_the_run(tmp_path, made):
    out = preview.preview_unrecognizable(configured(), tmp_path / "uis.png", 2)
    page = tiles(out, 4 * 118)
    left = 6 + 118  # of the first draw
    for number in range(2):
        rows = [
            top
            for top in range(len(page) - 112)
            if np.array_equal(page[top : top + 112, left : left + 112], made[number])
        ]
        assert len(rows) == 1


def test_the_preview_of_a_folder_shows_what_cannot_be_read(folder, tmp_path):
    out = tmp_path / "uis.png"
    words = [f"--config.recognizability.ui_path={folder}", "--config=demo"]
    command = ["data", "preview", "--unrecognizable", f"--out={out}", "--count=3"]
    assert main.main([*command, *words]) == 0
    whole = tiles(out, None)
    assert whole.shape == (6 + 14 + 118, 6 + 3 * 118, 3)
    np.testing.assert_array_equal(whole[60, [50, 168, 286], 0], [0, 200, 180])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"")
    words[0] = f"--config.recognizability.ui_path={tmp_path / 'bad'}"
    assert main.main([*command, *words]) == 0
    assert tuple(tiles(out, None)[60, 50]) == preview.LOW


def test_no_picture_is_no_preview(tmp_path):
    with pytest.raises(ConfigError, match="count: got 0"):
        preview.preview_unrecognizable(configured(), tmp_path / "sheet.png", 0)
    assert not list(tmp_path.iterdir())
