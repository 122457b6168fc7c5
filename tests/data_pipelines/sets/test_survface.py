import shutil

import numpy as np
import pytest
import scipy.io

from qface_jax.data_pipelines.sets.survface import open_survface
from qface_jax.errors import DataError
from support.mini_benchmarks import expected, mini
from support.protocol_goldens import FOLDER, golden

LISTS = FOLDER / "data/QMUL-SurvFace"
SEARCH, PAIRS = "Face_Identification_Test_Set", "Face_Verification_Test_Set"


@pytest.fixture
def tree(tmp_path):
    """The recorded lists with an empty file for each image."""
    searched, compared = (
        golden("survface_identification"),
        golden("survface_verification"),
    )
    root = tmp_path / "QMUL-SurvFace"
    shutil.copytree(LISTS, root)
    for folder, names in (
        (f"{SEARCH}/gallery", searched["gallery_names"]),
        (f"{SEARCH}/mated_probe", searched["mated_names"]),
        (f"{SEARCH}/unmated_probe", searched["unmated_names"]),
        (f"{PAIRS}/verification_images", compared["names"]),
    ):
        (root / folder).mkdir()
        for name in names:
            (root / folder / name).touch()
    return root


def rewrite(path, change):
    """Applies a change to the variables of a .mat file."""
    values = scipy.io.loadmat(path)
    values = {name: x for name, x in values.items() if not name.startswith("__")}
    change(values)
    scipy.io.savemat(path, values)


def test_miniature():
    folder, counts = mini("survface"), expected("survface")
    found = open_survface(folder)
    for name, count in counts.items():
        if not name.startswith("training"):
            assert found.counts[name] == count, name
    assert found.counts["missing"] == 0 and len(found.notes) == 1
    inner = open_survface(folder / "QMUL-SurvFace")
    assert inner.images.files == found.images.files
    for number in (0, 50, 100, len(found.images) - 1):
        (encoded,) = found.images.fetch([number])
        assert encoded[:2] == b"\xff\xd8"


def test_identities_are_those_of_the_lists(tree):
    recorded, found = golden("survface_identification"), open_survface(tree)
    np.testing.assert_array_equal(
        found.gallery_ids, recorded["gallery_ids"].ravel().astype(int) - 1
    )
    np.testing.assert_array_equal(
        found.probe_ids, recorded["mated_ids"].ravel().astype(int) - 1
    )
    numbers = [int(name.partition("_")[0]) for name in recorded["gallery_names"]]
    assert not np.any(found.gallery_ids + 1 == numbers)
    assert found.strangers == 180


def test_pairs_are_those_of_the_lists(tree):
    recorded, found = golden("survface_verification"), open_survface(tree)
    for kind in ("positive", "negative"):
        pairs = getattr(found, kind)
        files = np.array(found.images.files)[pairs]
        names = [[file.rpartition("/")[2] for file in row] for row in files.tolist()]
        assert names == recorded["names"][recorded[kind]].tolist()
        assert all(f"{PAIRS}/verification_images/" in file for file in files.ravel())


def test_missing_images_are_counted(tree):
    for folder in (f"{SEARCH}/gallery", f"{PAIRS}/verification_images"):
        sorted((tree / folder).iterdir())[0].unlink()
    found = open_survface(tree)
    assert found.counts["missing"] == 2
    assert any("2 images of the lists not in" in note for note in found.notes)


def test_probes_of_people_that_nobody_watches(tree):
    def rename(values):
        values["mated_probe_ids"][:4] = 999

    rewrite(tree / SEARCH / "mated_probe_img_ID_pairs.mat", rename)
    found = open_survface(tree)
    assert np.all(found.probe_ids[:4] == -1) and np.all(found.probe_ids[4:] >= 0)
    assert any(note.startswith("4 mated probes without a mate") for note in found.notes)


def test_identities_that_contradict_the_names_are_told(tree):
    def exchange(values):
        ids = values["gallery_ids"]
        ids[0, 0] = next(i for i in ids.ravel() if i != ids[0, 0])

    # The recorded lists repeat pairs of one person.
    assert len(open_survface(tree).notes) == 2
    rewrite(tree / SEARCH / "gallery_img_ID_pairs.mat", exchange)
    note = open_survface(tree).notes[-1]
    assert note.startswith("identities of the .mat files and numbers of the file names")


def test_a_pair_of_one_person_and_of_two_is_refused(tree):
    positive = scipy.io.loadmat(tree / PAIRS / "positive_pairs_names.mat")

    def copy(values):
        pair = positive["positive_pairs_names"][3, ::-1]
        values["negative_pairs_names"][7] = pair

    rewrite(tree / PAIRS / "negative_pairs_names.mat", copy)
    with pytest.raises(DataError, match="1 pair in both lists, of one person and"):
        open_survface(tree)


def test_a_row_that_is_there_twice_is_refused(tree):
    def double(values):
        values["gallery_set"][1] = values["gallery_set"][0]

    rewrite(tree / SEARCH / "gallery_img_ID_pairs.mat", double)
    with pytest.raises(DataError, match="gallery_set has 1 name more than once"):
        open_survface(tree)


def test_pairs_of_another_shape_are_refused(tree):
    def flatten(values):
        values["positive_pairs_names"] = values["positive_pairs_names"][:, :1]

    rewrite(tree / PAIRS / "positive_pairs_names.mat", flatten)
    with pytest.raises(
        DataError, match=r"array of texts \[n, 2\], got texts \[120, 1\]"
    ):
        open_survface(tree)


@pytest.mark.parametrize("kind", ["gallery_img_ID", "mated_probe_img_ID"])
def test_a_list_cut_short_is_refused(tree, kind):
    path = tree / SEARCH / f"{kind}_pairs.mat"
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match="is not a whole MATLAB file of version 5"):
        open_survface(tree)


def test_an_empty_gallery_is_refused(tree):
    def empty(values):
        values["gallery_set"] = values["gallery_set"][:0]
        values["gallery_ids"] = values["gallery_ids"][:0]

    rewrite(tree / SEARCH / "gallery_img_ID_pairs.mat", empty)
    with pytest.raises(DataError, match="gallery_set is empty; it must list at least"):
        open_survface(tree)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (SEARCH, "no folder .*Test_Set or .*; give the folder of the benchmark with"),
        (f"{SEARCH}/unmated_probe", "unmated_probe: cannot be read: No such file"),
        (f"{PAIRS}/verification_images", "verification_images: cannot be read"),
        (f"{PAIRS}/negative_pairs_names.mat", "no file .*negative_pairs_names.mat or"),
    ],
)
def test_what_is_missing_is_named(tree, gone, message):
    path = tree / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message):
        open_survface(tree)


def test_pairs_listed_again_are_counted(tree):
    """In either order of the two images."""
    path = tree / "Face_Verification_Test_Set" / "negative_pairs_names.mat"
    table = scipy.io.loadmat(path)["negative_pairs_names"]
    table = np.concatenate([table, table[:1, ::-1]])
    scipy.io.savemat(path, {"negative_pairs_names": table})
    note = "negative_pairs_names.mat: 1 pair listed again, and scored again"
    assert note in open_survface(tree).notes
