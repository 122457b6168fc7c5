"""A random share of a source: which records, whose, and what is said of them."""

import itertools
import logging

import numpy as np
import pytest

from qface_jax.configs import base
from qface_jax.data_pipelines.sources.records import record_name
from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.data_pipelines.sources.subset import Subset, random_subset
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs
from support.recordio_writer import jpeg, write_plain

PEOPLE = 10
LABELS = np.repeat(np.arange(PEOPLE), 4).tolist()
IMAGES = [jpeg(i) for i in range(len(LABELS))]
# How permutations of 0 .. 39 and 0 .. 9 by the Mersenne twister of seed 3 begin. They
# must not change with the versions of anything.
FIRST_IMAGES = [29, 16, 9, 27, 4, 18, 28, 38, 15, 26]
FIRST_PEOPLE = [5, 4, 1]


@pytest.fixture
def folder(tmp_path):
    return write_plain(tmp_path, LABELS, IMAGES)


@pytest.fixture
def whole(folder):
    return open_source("mxnet", [folder])


def write_folder(root, counts):
    for person, count in counts.items():
        (root / person).mkdir(parents=True)
        for i in range(count):
            (root / person / f"{i}.jpg").write_bytes(jpeg(i))
    return root


def numbers(source):
    """The records of the whole set that a source consists of."""
    images, _ = source.fetch(np.arange(len(source)))
    return [IMAGES.index(image) for image in images]


def test_a_share_of_the_images(whole):
    source = random_subset(whole, Subset(0.25, "images", 3))
    expected = sorted(FIRST_IMAGES)
    assert numbers(source) == expected
    people = sorted({LABELS[row] for row in expected})
    assert source.labels().tolist() == [people.index(LABELS[row]) for row in expected]
    assert (len(source), source.num_classes) == (10, len(people))
    assert source.labels().dtype == np.int32
    images, labels = source.fetch(np.array([9, 0]))
    assert images == [IMAGES[expected[9]], IMAGES[expected[0]]]
    assert labels.tolist() == source.labels()[[9, 0]].tolist()
    assert source.left_out_identities == PEOPLE - len(people) > 0
    assert record_name(source, 1).endswith(f"key {expected[1]}")
    facts = source.describe()
    assert (facts["subset"], facts["subset_of"]) == (0.25, "images")
    assert facts["subset_seed"] == 3


def test_a_share_of_the_identities_with_all_their_images(whole):
    source = random_subset(whole, Subset(0.3, "identities", 3))
    assert (len(source), source.num_classes) == (12, 3)
    assert [LABELS[row] for row in numbers(source)] == np.repeat(
        sorted(FIRST_PEOPLE), 4
    ).tolist()
    assert source.labels().tolist() == np.repeat(np.arange(3), 4).tolist()


@pytest.mark.parametrize("of", ["images", "identities"])
def test_a_smaller_share_lies_within_a_larger_one(whole, of):
    taken = [
        set(numbers(random_subset(whole, Subset(share, of, 8))))
        for share in (0.01, 0.2, 0.5, 0.9, 1.0)
    ]
    assert all(small < large for small, large in itertools.pairwise(taken))
    assert len(taken[0]) == (1 if of == "images" else 4)
    assert taken[-1] == set(range(40))
    other = random_subset(whole, Subset(0.5, of, 9))
    assert set(numbers(other)) != taken[2]


def test_identities_without_an_image_are_not_drawn(tmp_path):
    source = open_source("mxnet", [write_plain(tmp_path, [2, 2, 9, 9], IMAGES[:4])])
    assert source.num_classes == 10
    for seed in range(5):
        half = random_subset(source, Subset(0.5, "identities", seed))
        assert (len(half), half.num_classes, half.left_out_identities) == (2, 1, 1)


def test_of_all_sets_together_and_before_small_identities_go(tmp_path, caplog):
    paths = [
        write_folder(tmp_path / f"set{i}", {"ann": 6, "bob": 6, "eve": 1})
        for i in range(2)
    ]
    subset = Subset(0.5, "images", 1)
    with caplog.at_level(logging.INFO):
        half = open_source("folder", paths, subset=subset)
        large = open_source("folder", paths, subset=subset, drop_small_identities=3)
    check = np.bincount(half.labels())
    assert len(half) == check.sum() == 13
    assert "data.subset=0.5 of the images, seed 1: 13 of 26 images" in caplog.text
    assert large.num_classes == np.count_nonzero(check >= 3) < half.num_classes
    assert len(large) == check[check >= 3].sum()
    facts = large.describe()
    assert (facts["images"], facts["subset"]) == (len(large), 0.5)
    assert len(facts["joined"]) == 2
    names = [record_name(half, row) for row in range(13)]
    assert any("set0" in name for name in names)
    assert any("set1" in name for name in names)


def test_drawn_faces_and_the_keys_of_a_config():
    config = base.get_config()
    config.data.synthetic.identities = 8
    config.data.synthetic.images_per_identity = 3
    config.data.subset, config.data.subset_of = 0.5, "identities"
    config.data.subset_seed = 4
    by_seed = []
    for seed in (0, 1):
        config.seed = seed
        source = training_source(config)
        check = source.fetch(np.arange(len(source)))[0]
        assert (len(source), source.num_classes) == (12, 4)
        by_seed.append(check)
    assert by_seed[0] == by_seed[1]
    config.data.subset_seed = 5
    source = training_source(config)
    assert source.fetch(np.arange(12))[0] != by_seed[0]
    config.data.subset = 1.0
    assert "subset" not in training_source(config).describe()


@pytest.mark.parametrize(
    "word", ["subset=0", "subset=1.5", "subset_of=people", "subset_seed=-1"]
)
def test_keys_out_of_range(word):
    with pytest.raises(ConfigError, match=rf"data\.{word.partition('=')[0]}: got"):
        configs.load("demo", [f"--config.data.{word}"])


def test_arguments_out_of_range(whole):
    with pytest.raises(ValueError, match=r"share: got 0, must be within \(0, 1\]"):
        random_subset(whole, Subset(0, "images", 1))
    with pytest.raises(ValueError, match="of: got 'people', must be one of images"):
        random_subset(whole, Subset(0.5, "people", 1))
