"""Text lists of pairs in each published form, and damaged ones."""

import os

import numpy as np
import pytest

from qface_jax.data_pipelines.sets.pair_lists import find_images, read_pair_list
from qface_jax.data_pipelines.sets.pair_sets import ListedPairs
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


NAMED = ["Ann/Ann_0001", "Ann/Ann_0012", "Ann/Ann_0003", "Bo/Bo_0004"]


@pytest.mark.parametrize(
    "text",
    [
        "Ann\t1\t12\nAnn\t3\tBo\t4\n",
        "\ufeff2\t1\nAnn\t1\t12\nAnn\t3\tBo\t4\n",
        "2\t1 \nAnn\t1\t12 \nAnn\t3\tBo\t4\t\n",
        "# my pairs\n2\t1\n# of one\nAnn\t1\t12\n\nAnn\t3\tBo\t4",
        "2 1\nAnn\t1 12\nAnn 3\tBo 4\n",
        "2\t1\t1\nAnn\t1\t12\nAnn\t3\tBo\t4\n",
        "Ann\t0001\t0012\r\nAnn\t0003\tBo\t04\r\n",
        "Ann,1,12,\nAnn,3,Bo,4\n",
    ],
    ids=["plain", "mark", "blanks", "comments", "mixed", "three", "zeros", "commas"],
)
def test_forms_of_the_same_list(tmp_path, text):
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    listed = read_pair_list(path)
    assert listed.stems == NAMED
    assert listed.issame.tolist() == [True, False]


def test_names_with_blanks_where_blanks_stand_for_tabs(tmp_path):
    lines = ["Ann Lee\t1 12", "Ann Lee 3\tBo Li 4"]
    listed = read_pair_list(written(tmp_path, lines))
    assert listed.stems[1:] == [
        "Ann Lee/Ann Lee_0012", "Ann Lee/Ann Lee_0003", "Bo Li/Bo Li_0004",
    ]  # fmt: skip


def test_tables_with_names_of_columns(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("name,imagenum1,imagenum2,\nAnn,1,12,\nAnn,3,Bo,4\n")
    assert read_pair_list(path).stems == NAMED
    path.write_text("path1,path2,label\nA/a.jpg,A/b.png,1\nA/a.jpg,B/c.JPEG,0\n")
    listed = read_pair_list(path)
    assert listed.stems == ["A/a", "A/b", "A/a", "B/c"]
    assert listed.issame.tolist() == [True, False]


@pytest.mark.parametrize("two", ["0", "-1", "0.0"])
def test_two_files_and_a_label_a_line(tmp_path, two):
    lines = ["A/a.jpg A/b.PNG 1", f"A/a.jpg B/c.bmp {two}"]
    listed = read_pair_list(written(tmp_path, lines))
    assert listed.stems == ["A/a", "A/b", "A/a", "B/c"]
    assert listed.issame.tolist() == [True, False]


def test_people_whose_names_are_numbers(tmp_path):
    """RFW has such names: the first line is a pair, not three counts."""
    listed = read_pair_list(written(tmp_path, ["10 300 1", "11 1 2"]))
    assert listed.header == () and listed.stems[0] == "10/10_0300"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9" * 5000 + " 5\na 1 2\n", "line 1 has 5,002 characters, expected"),
        ("a 1 2\n" + "a" * 100_000 + " 1 2\n", "line 2 has 100,004 characters"),
        ("a\0b 1 2\n", "line 1 has a NUL, expected"),
        ("a ² ³\n", "line 1 is 'a ² ³', expected"),
        ("a 1 2\na 1 ٣\n", "line 2 is 'a 1 ٣', expected"),
        ("a 999999999999999999999999 1\n", "line 1 is 'a 9999"),
        ("a\u200b1 2\n", r"line 1 is 'a\\u200b1 2', expected"),
        ("../../../../etc 1 2\n", "expected files within the folder of the images"),
        ("/etc/a.jpg /etc/b.jpg 1\n", "expected files within the folder"),
        ("a.jpg b.jpg x\n", "line 1 is 'a.jpg b.jpg x', expected"),
    ],
)
def test_lists_made_to_break_a_reader(tmp_path, text, words):
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=words) as error:
        read_pair_list(path)
    assert len(str(error.value)) < 400 + len(str(path))


def test_a_list_that_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pairs.txt")
    with pytest.raises(DataError, match="is no regular file, expected a list"):
        read_pair_list(tmp_path / "pairs.txt")


def test_what_is_there_instead_is_shown(tmp_path):
    (tmp_path / "A").mkdir()
    for name in ("A_0001\u200b.jpg", "A_0002.heic"):
        (tmp_path / "A" / name).touch()
    path = written(tmp_path, ["A 1 2"])
    with pytest.raises(DataError, match="got none of the 2 images") as error:
        ListedPairs(path, tmp_path)
    assert r"'A_0001\u200b.jpg'" in str(error.value)
    assert "'A_0002.heic'" in str(error.value)


def test_endings_in_any_case(tmp_path):
    (tmp_path / "A").mkdir()
    for name in ("A_0001.JPEG", "A_0002.Bmp", "A_0003.txt", "A_0003.PNG", "A_0004"):
        (tmp_path / "A" / name).touch()
    assert find_images(tmp_path, [f"A/A_000{n}" for n in range(1, 5)]) == [
        "A/A_0001.JPEG", "A/A_0002.Bmp", "A/A_0003.PNG", None,
    ]  # fmt: skip
