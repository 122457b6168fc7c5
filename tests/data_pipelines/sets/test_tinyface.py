import shutil

import numpy as np
import pytest
import scipy.io

from qface_jax.data_pipelines.sets.tinyface import NOBODY, open_tinyface
from qface_jax.errors import DataError
from support.mini_benchmarks import expected, mini
from support.protocol_goldens import FOLDER, golden

LISTS = FOLDER / "data/tinyface/Testing_Set"


@pytest.fixture
def tree(tmp_path):
    """The recorded lists with an empty file for each image and ten distractors."""
    recorded = golden("tinyface_plain")
    root = tmp_path / "tinyface"
    shutil.copytree(LISTS, root / "Testing_Set")
    for folder, names in (
        ("Gallery_Match", recorded["gallery_names"]),
        ("Gallery_Distractor", recorded["distractor_names"][:10]),
        ("Probe", recorded["probe_names"]),
    ):
        for place in (root / "Testing_Set", tmp_path / "aligned_pad_0.1_pad_high"):
            (place / folder).mkdir(parents=True)
            for name in names:
                (place / folder / name).touch()
    return tmp_path


@pytest.mark.parametrize("copies", ["raw", "aligned"])
def test_miniature(copies):
    folder, counts = mini("tinyface"), expected("tinyface")
    found = open_tinyface(folder, copies)
    for name in ("gallery_match", "probe", "distractor", "test_identities"):
        assert found.counts[name] == counts[name]
    assert found.counts["missing"] == 0 and len(found.notes) == 1
    assert len(found.images) == sum(
        counts[name] for name in ("gallery_match", "probe", "distractor")
    )
    for number in (0, 60, len(found.images) - 1):
        (encoded,) = found.images.fetch([number])
        assert encoded[:2] == b"\xff\xd8"
    where = "aligned_pad_0.1_pad_high" if copies == "aligned" else "Testing_Set"
    assert found.images.folder.name == where
    # A third of the distractors are named like people of the test set.
    named = {int(name.partition("/")[2].partition("_")[0])
             for name in found.images.files[counts["gallery_match"]:][:60]}  # fmt: skip
    assert named & set(found.probe_ids.tolist())
    assert np.all(found.gallery_ids[counts["gallery_match"] :] == NOBODY)
    inner = open_tinyface(folder / "tinyface", copies)
    assert inner.images.files == found.images.files


def test_identities_are_those_of_the_lists(tree):
    recorded, found = golden("tinyface_plain"), open_tinyface(tree, "raw")
    mates = recorded["gallery_ids"].ravel()
    np.testing.assert_array_equal(found.gallery_ids[: len(mates)], mates)
    np.testing.assert_array_equal(found.probe_ids, recorded["probe_ids"].ravel())
    names = [f"Gallery_Match/{name}" for name in recorded["gallery_names"]]
    assert found.images.files[: len(names)] == names
    assert found.images.describe()["counts"]["distractor"] == 10


def test_lists_may_lie_in_the_evaluation_folder(tree):
    root = tree / "tinyface"
    (root / "Face_Identification_Evaluation").mkdir()
    for path in (root / "Testing_Set").glob("*.mat"):
        path.rename(root / "Face_Identification_Evaluation" / path.name)
    assert open_tinyface(tree, "raw").counts["probe"] == 101


def test_copies_may_have_another_ending(tree):
    folder = tree / "aligned_pad_0.1_pad_high" / "Probe"
    for path in folder.iterdir():
        path.rename(path.with_suffix(".png"))
    found = open_tinyface(tree, "aligned")
    assert found.counts["missing"] == 0 and found.images.files[-1].endswith(".png")
    assert (found.images.folder / found.images.files[-1]).is_file()


def test_missing_images_are_counted_and_keep_their_place(tree):
    for path in sorted((tree / "tinyface/Testing_Set/Probe").iterdir())[:3]:
        path.unlink()
    found = open_tinyface(tree, "raw")
    assert found.counts["missing"] == 3 and found.counts["probe"] == 101
    assert len(found.images) == 108 + 10 + 101
    assert any("3 images of the lists not in " in note for note in found.notes)


def test_a_list_that_names_an_unknown_image(tree):
    path = tree / "tinyface/Testing_Set/probe_img_ID_pairs.mat"
    lists = scipy.io.loadmat(path)
    names, ids = lists["probe_set"], lists["probe_ids"]
    names[5, 0] = np.array(["nowhere_1.jpg"])
    scipy.io.savemat(path, {"probe_set": names, "probe_ids": ids})
    found = open_tinyface(tree, "raw")
    assert found.counts["missing"] == 1
    assert found.images.files[108 + 10 + 5] == "Probe/nowhere_1.jpg"


def test_a_row_that_is_there_twice_is_refused(tree):
    path = tree / "tinyface/Testing_Set/gallery_match_img_ID_pairs.mat"
    lists = scipy.io.loadmat(path)
    doubled = {
        "gallery_set": np.concatenate([lists["gallery_set"]] * 2),
        "gallery_ids": np.concatenate([lists["gallery_ids"]] * 2),
    }
    scipy.io.savemat(path, doubled)
    with pytest.raises(DataError, match=r"gallery_set has 108 names more than once"):
        open_tinyface(tree, "raw")


def test_two_files_of_one_name_are_refused(tree):
    folder = tree / "tinyface/Testing_Set/Gallery_Distractor"
    first = sorted(folder.iterdir())[0]
    first.with_suffix(".PNG").touch()
    with pytest.raises(DataError, match="an image must be there once"):
        open_tinyface(tree, "raw")


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (
            "tinyface",
            r"no folder .*Testing_Set or .*; give the folder of the benchmark",
        ),
        ("tinyface/Testing_Set/Probe", r"Probe: cannot be read: No such file"),
        ("tinyface/Testing_Set/Gallery_Distractor", "Distractor: cannot be read"),
        ("tinyface/Testing_Set/probe_img_ID_pairs.mat", r"no file .*ID_pairs\.mat or"),
    ],
)
def test_what_is_missing_is_named(tree, gone, message):
    path = tree / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        open_tinyface(tree, "raw")


def test_a_list_cut_short_is_refused(tree):
    path = tree / "tinyface/Testing_Set/gallery_match_img_ID_pairs.mat"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"\(1,000 bytes: .*\); it must hold the var"):
        open_tinyface(tree, "raw")
