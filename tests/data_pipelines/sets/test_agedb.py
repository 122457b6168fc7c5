"""AgeDB's list of pairs and its landmarks, and damaged ones."""

import numpy as np
import pytest
import scipy.io

from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.sets import agedb
from qface_jax.data_pipelines.sets.mat_file import read_nested
from qface_jax.data_pipelines.sets.pair_sets import open_pair_set
from qface_jax.data_pipelines.sets.usable_pairs import UsablePairs
from qface_jax.errors import DataError
from support.image_files import encoded, noise
from support.published_lists import POINTS, agedb_names, write_agedb, write_splits


def open_named(folder, name="agedb_30"):
    config = get_config().eval
    config.path = str(folder)
    return open_pair_set(name, config)


def read_by_scipy(path):
    """As insightface and FaceX-Zoo read it."""
    names, labels = [], []
    for split in scipy.io.loadmat(path)["splits"]:
        images, of_fold = split[0][0][0]
        assert images.shape == (2, of_fold.shape[1])
        for pair in range(images.shape[1]):
            names += [images[row, pair][0][0][0][0] for row in range(2)]
        labels += [label == 1 for label in of_fold[0]]
    return names, labels


@pytest.mark.parametrize("packed", [False, True])
def test_the_published_form(tmp_path, packed):
    path = write_splits(tmp_path / "list.mat", folds=10, pairs=4, packed=packed)
    listed = agedb.read_splits(path)
    names, labels = read_by_scipy(path)
    assert listed.stems == names and listed.issame.tolist() == labels
    assert listed.folds == 10 and len(labels) == 40 and sum(labels) == 20
    (note,) = listed.notes
    assert "40 pairs instead of 6,000, 20 same instead of 3,000" in note


def test_a_whole_list_says_nothing(tmp_path):
    path = write_splits(tmp_path / "list.mat", folds=10, pairs=600)
    listed = agedb.read_splits(path)
    assert listed.notes == [] and len(listed.stems) == 12000


def test_found_in_its_folder_and_aligned(tmp_path):
    write_agedb(tmp_path / "AgeDB", folds=3, pairs=2)
    pairs = open_named(tmp_path)
    assert (pairs.name, pairs.folds, len(pairs)) == ("agedb_30", 3, 12)
    eyes = (POINTS[36] + POINTS[39]) / 2, (POINTS[42] + POINTS[45]) / 2
    expected = np.stack([*eyes, POINTS[33], POINTS[48], POINTS[54]])
    np.testing.assert_allclose(pairs.landmarks, np.stack([expected] * 12))
    assert "five of the 68 points in .pts" in pairs.describe()["aligner"]
    assert open_named(tmp_path / "AgeDB").issame.tolist() == pairs.issame.tolist()


def test_a_face_without_landmarks_cannot_be_used(tmp_path):
    folder = write_agedb(tmp_path, folds=2, pairs=2) / agedb.FOLDER
    first, second, *others = agedb_names(folds=2, pairs=2)
    (folder / f"{first}.pts").unlink()
    (folder / f"{second}.pts").write_text("version: 1\n{\n1 2\n3\n}")
    images = UsablePairs(open_named(tmp_path))
    pictures = images.fetch(range(len(images)))
    assert sorted(images.failures) == [0, 1]
    assert "landmarks: got nan" in images.failures[0]
    assert pictures[0] != encoded(noise(112, 112)) == pictures[2]
    assert len(others) == 6


def test_aligned_copies_need_no_landmarks(tmp_path):
    write_agedb(tmp_path, folds=2, pairs=2)
    for path in (tmp_path / agedb.FOLDER).glob("*.pts"):
        path.unlink()
    (tmp_path / agedb.FOLDER).rename(tmp_path / "crops")
    pairs = open_named(tmp_path, f"{agedb.LIST_NAME}::crops")
    assert pairs.landmarks is None and UsablePairs(pairs).transforms is None
    assert pairs.name == "04_FINAL_protocol_30_years"
    assert pairs.describe()["aligner"] == "none"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pairs": np.zeros(3)}, "has no variable splits, but pairs"),
        ({"splits": np.zeros((10, 1))}, "split 1 of splits is no pair of images and"),
        ({"splits": "text"}, "split 1 of splits is no pair of images and labels"),
    ],
)
def test_other_files(tmp_path, values, words):
    path = tmp_path / "list.mat"
    scipy.io.savemat(path, values)
    with pytest.raises(DataError, match=words):
        agedb.read_splits(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": 3}, r"split 2 has labels \[-1.0, 3.0\], expected 1 and -1"),
        ({"name": "../a"}, r"split 2 has an image '\.\./a', expected the name"),
        ({"name": ""}, "split 2 has an image '', expected the name"),
        ({"cut": True}, r"split 2 has images \[2, 4\] and 3 labels, expected \[2, 3\]"),
    ],
)
def test_damaged_lists(tmp_path, changes, words):
    path = write_splits(tmp_path / "list.mat", folds=2, pairs=4, **changes)
    with pytest.raises(DataError, match=words):
        agedb.read_splits(path)


def test_a_list_cut_short(tmp_path):
    path = write_splits(tmp_path / "list.mat", folds=2, pairs=4)
    content = path.read_bytes()
    for share in (0.05, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match="not a whole MATLAB file of version 5"):
            agedb.read_splits(path)


def test_cells_within_cells_have_an_end(tmp_path):
    nested = np.zeros((1, 1))
    for _ in range(20):
        outer = np.empty((1, 1), object)
        outer[0, 0] = nested
        nested = outer
    scipy.io.savemat(tmp_path / "list.mat", {"splits": nested})
    with pytest.raises(DataError, match="more than 16 cells lie within each other"):
        read_nested(tmp_path / "list.mat", "splits")
