"""Text lists of pairs in each published form, and damaged ones."""

import numpy as np
import pytest

from qface_jax.data_pipelines.sets.pair_lists import find_images, read_pair_list
from qface_jax.errors import DataError


def written(folder, lines, newline="\n"):
    path = folder / "pairs.txt"
    path.write_bytes(newline.join([*lines, ""]).encode())
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("lines", "header"),
    [
        (["10\t1", "Ann Lee\t1\t12", "Ann Lee\t3\tBo\t4"], (10, 1)),
        (["2", "Ann Lee\t1\t12", "Ann Lee\t3\tBo\t4"], (2,)),
        (["Ann Lee\t1\t12", "", "Ann Lee\t3\tBo\t4"], ()),
    ],
    ids=["LFW and XQLFW", "one count", "RFW, SLLFW"],
)
def test_names_and_numbers(tmp_path, lines, header, newline):
    listed = read_pair_list(written(tmp_path, lines, newline))
    assert listed.header == header and listed.issame.tolist() == [True, False]
    assert listed.stems == [
        "Ann Lee/Ann Lee_0001",
        "Ann Lee/Ann Lee_0012",
        "Ann Lee/Ann Lee_0003",
        "Bo/Bo_0004",
    ]


def test_blanks_and_rfw_names(tmp_path):
    listed = read_pair_list(written(tmp_path, ["m.0c12 1 2", "m.0c12 1 m.02 1"]))
    assert listed.stems == [
        "m.0c12/m.0c12_0001",
        "m.0c12/m.0c12_0002",
        "m.0c12/m.0c12_0001",
        "m.02/m.02_0001",
    ]


def test_a_file_and_a_label_a_line(tmp_path):
    """CALFW and CPLFW: kinds come one after the other, and are put into folds."""
    lines = [f"A_{i:04d}.jpg {1 + i // 20}" for i in range(60)]
    lines += [f"B_{i:04d}.jpg 0" for i in range(60)]
    listed = read_pair_list(written(tmp_path, lines))
    assert listed.issame.tolist() == [True, True, True, False, False, False] * 10
    assert listed.stems[:2] == ["A_0000", "A_0001"]
    assert listed.stems[6:8] == ["B_0000", "B_0001"]
    assert sorted(listed.stems) == sorted(line.split(".")[0] for line in lines)


def test_labelled_pairs_that_alternate_stay(tmp_path):
    lines = ["A_1.jpg 1", "A_2.jpg 1", "A_1.jpg 0", "B_1.jpg 0", "B_1.jpg 1"]
    listed = read_pair_list(written(tmp_path, [*lines, "B_2.jpg 1"]))
    assert listed.issame.tolist() == [True, False, True]
    assert listed.stems == ["A_1", "A_2", "A_1", "B_1", "B_1", "B_2"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["A 1 2", "A 1"], "line 2 is 'A 1', expected 'name i j'"),
        (["A 1 2", "A 1 B x"], "line 2 is 'A 1 B x'"),
        (["A 1 2", "A 1 B 2 5"], "line 2 is 'A 1 B 2 5'"),
        (["A_1.jpg 1", "A_2.jpg 0"], "lines 1 and 2 are a pair and have labels 1 and"),
        (["A_1.jpg 1", "A_2.jpg 1", "A_3.jpg 1"], "got 3 lines of images, expected"),
        (["A_1.jpg 1", "A_2.jpg x"], "line 2 is 'A_2.jpg x', expected 'file label'"),
        (["10 300"], "holds no pair"),
        ([], "holds no pair"),
    ],
)
def test_damaged_lists(tmp_path, lines, words):
    with pytest.raises(DataError, match=words):
        read_pair_list(written(tmp_path, lines))


def test_no_list(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_pair_list(tmp_path / "none.txt")


def test_images_by_stem(tmp_path):
    (tmp_path / "A").mkdir()
    for name in ("A/A_0001.jpg", "A/A_0002.PNG", "B_0001.jpeg"):
        (tmp_path / name).touch()
    stems = ["A/A_0001", "A/A_0002", "A/A_0003", "C/C_0001", "B_0001", "A/A_0001"]
    assert find_images(tmp_path, stems) == [
        "A/A_0001.jpg", "A/A_0002.PNG", None, None, "B_0001.jpeg", "A/A_0001.jpg",
    ]  # fmt: skip
    with pytest.raises(DataError, match="no such folder"):
        find_images(tmp_path / "none", stems)


def test_each_fold_holds_both_kinds(tmp_path):
    lines = [f"A_{i}.jpg 1" for i in range(46)] + [f"B_{i}.jpg 0" for i in range(46)]
    listed = read_pair_list(written(tmp_path, lines))
    parts = np.array_split(listed.issame, 10)
    assert all(part.any() and not part.all() for part in parts)
