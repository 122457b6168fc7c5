import io

import numpy as np
import pytest
import scipy.io

from qface_jax.data_pipelines.sets.mat_file import read_labels, read_names
from qface_jax.errors import DataError
from support.protocol_goldens import FOLDER, golden

TINYFACE = FOLDER / "data/tinyface/Testing_Set/probe_img_ID_pairs.mat"
VARIABLES = "probe_set", "probe_ids"


def cells(names, columns=1):
    return np.array(names, object).reshape(-1, columns)


def test_recorded_lists():
    recorded = golden("tinyface_plain")
    names, ids = read_labels(TINYFACE, *VARIABLES)
    assert names == recorded["probe_names"].tolist()
    np.testing.assert_array_equal(ids, recorded["probe_ids"].ravel())
    folder = FOLDER / "data/QMUL-SurvFace/Face_Verification_Test_Set"
    name = "negative_pairs_names"
    table = read_names(folder / f"{name}.mat", name, 2)
    reference = scipy.io.loadmat(folder / f"{name}.mat")[name]
    assert table.tolist() == [[cell.item() for cell in row] for row in reference]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "i8", "f4", "f8"])
def test_every_kind_of_number(tmp_path, kind, packed):
    ids = np.array([[1], [77], [100]], kind)
    path = tmp_path / "a.mat"
    with path.open("wb") as file:
        values = {"other": "text", "s": cells(["a.jpg", "ß.jpg", "c.png"]), "i": ids}
        scipy.io.savemat(file, values, do_compression=packed)
    names, read = read_labels(path, "s", "i")
    assert names == ["a.jpg", "ß.jpg", "c.png"]
    assert read.tolist() == [1, 77, 100] and read.dtype == np.int64


def test_big_endian_files_and_wide_letters(tmp_path):
    """As MATLAB writes on another machine: bytes put together by hand."""

    def element(kind, held):
        padded = held + b"\0" * (-len(held) % 8)
        return np.array([kind, len(held)], ">u4").tobytes() + padded

    def matrix(kind, shape, name, *held):
        flags = element(6, np.array([kind, 0], ">u4").tobytes())
        sizes = element(5, np.array(shape, ">i4").tobytes())
        return element(14, flags + sizes + element(1, name) + b"".join(held))

    text = matrix(4, (1, 5), b"", element(4, "a.jpg".encode("utf-16-be")))
    content = b"MATLAB 5.0".ljust(124) + b"\1\0MI" + matrix(1, (1, 1), b"s", text)
    content += matrix(6, (1, 1), b"i", element(4, np.array([500], ">u2").tobytes()))
    path = tmp_path / "big.mat"
    path.write_bytes(content)
    reference = scipy.io.loadmat(path)
    assert reference["s"].item().item() == "a.jpg"
    names, ids = read_labels(path, "s", "i")
    assert names == ["a.jpg"] and ids.tolist() == [500] == reference["i"].ravel()


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_is_refused(tmp_path, packed):
    values = scipy.io.loadmat(TINYFACE, variable_names=VARIABLES)
    whole = io.BytesIO()
    lists = {name: values[name] for name in VARIABLES}
    scipy.io.savemat(whole, lists, do_compression=packed)
    path = tmp_path / "cut.mat"
    for length in range(0, len(whole.getvalue()), 37):
        path.write_bytes(whole.getvalue()[:length])
        with pytest.raises(DataError, match=r"cut\.mat: ") as caught:
            read_labels(path, *VARIABLES)
        assert "\n" not in str(caught.value)


def test_a_file_with_changed_bytes_is_read_or_refused(tmp_path):
    whole = TINYFACE.read_bytes()
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "changed.mat", 0
    for _ in range(1500):
        changed = bytearray(whole)
        for place in rng.integers(126, len(whole), 3):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            names, ids = read_labels(path, *VARIABLES)
            assert len(names) == len(ids) == 101
        except DataError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"s": cells(["a", "b"])}, "has no variable i, but s"),
        ({"i": [1.0]}, "has no variable s, but i"),
        ({"s": cells(["a", "b"]), "i": [1.0]}, "a number for each of the 2 names of s"),
        ({"s": cells(["a", "b"]), "i": [1.0, 0.5]}, "must hold whole numbers"),
        ({"s": cells(["a", "b"]), "i": [1.0, -1]}, "that are not negative"),
        ({"s": cells(["a", "b"]), "i": [1.0, np.nan]}, "must hold whole numbers"),
        ({"s": cells(["a", "b", "a"]), "i": [1, 2, 3]}, "1 name more than once, such "
         "as 'a'; each image must be listed once"),
        ({"s": cells(["../a"]), "i": [1]}, r"has '\.\./a', expected the name of an"),
        ({"s": cells([""]), "i": [1]}, "has '', expected the name of an image file"),
        ({"s": [1.0, 2.0], "i": [1]}, r"cell array of texts \[n, 1\], got numbers"),
        ({"s": cells(list("abcd"), 2), "i": [1]}, r"got texts \[2, 2\]"),
        ({"s": cells([]), "i": []}, "s is empty; it must list at least one image"),
        ({"s": "text", "i": [1]}, "s holds neither numbers nor cells"),
        ({"s": cells([1.0]), "i": [1]}, "a cell of s is no line of text"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_names_is_refused(tmp_path, variables, message):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, variables)
    with pytest.raises(DataError, match=message):
        read_labels(path, "s", "i")


def test_what_is_no_file_of_matlab_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(DataError, match=r"a\.mat: cannot be read: No such file"):
        read_labels(path, "s", "i")
    path.write_text("names, ids\n" * 100)
    with pytest.raises(DataError, match="it does not begin as one"):
        read_labels(path, "s", "i")
