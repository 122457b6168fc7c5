"""Verification sets: every way they are written, and what is refused."""

import os
import pickle
import struct

import numpy as np
import pytest

from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.sets.pair_sets import PickledPairs, open_pair_set
from qface_jax.errors import ConfigError, DataError

IMAGES = [b"\xff\xd8image" + bytes([i, 0, 255, 10]) for i in range(6)]
SAME = [True, False, True]
ITEMS = {
    "bytes": lambda data: data,
    "vector": lambda data: np.frombuffer(data, np.uint8).copy(),
    "column": lambda data: np.frombuffer(data, np.uint8).reshape(-1, 1),
}
FLAGS = {
    "bools": SAME,
    "array": np.array(SAME),
    "numpy bools": [np.bool_(value) for value in SAME],
    "integers": tuple(int(value) for value in SAME),
}


def write_bin(folder, content, protocol=4):
    path = folder / "set.bin"
    path.write_bytes(
        content if isinstance(content, bytes) else pickle.dumps(content, protocol)
    )
    return path


def open_set(spec):
    return open_pair_set(str(spec), get_config().eval)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("item", ITEMS)
def test_bin(tmp_path, protocol, item, flags):
    content = ([ITEMS[item](data) for data in IMAGES], FLAGS[flags])
    pairs = open_set(write_bin(tmp_path, content, protocol))
    assert pairs.name == "set" and len(pairs) == 6
    assert pairs.issame.dtype == bool and pairs.issame.tolist() == SAME
    assert pairs.fetch(np.array([5, 0, 0])) == [IMAGES[5], IMAGES[0], IMAGES[0]]
    facts = pairs.describe()
    assert (facts["images"], facts["pairs"], facts["same"]) == (6, 3, 2)


def test_bin_of_python_2(tmp_path):
    # Protocol 2 as Python 2 writes it: str as SHORT_BINSTRING, numpy arrays with
    # their dtype's name and content as str.
    def text(data):
        return b"U" + bytes([len(data)]) + data

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R(K\x01K\x0b\x85cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text(IMAGES[1])
        + b"tb"
    )
    content = b"\x80\x02](" + text(IMAGES[0]) + array + b"e]\x88a\x86."
    pairs = PickledPairs(write_bin(tmp_path, content))
    assert pairs.fetch(np.arange(2)) == IMAGES[:2]
    assert pairs.issame.tolist() == [True]


def test_bin_of_python_2_in_text_form(tmp_path):
    content = b"((lp0\nS'\\xff\\xd8a\\n'\np1\naS'b'\np2\na(lp3\nI01\natp4\n."
    pairs = PickledPairs(write_bin(tmp_path, content))
    assert pairs.fetch(np.arange(2)) == [b"\xff\xd8a\n", b"b"]
    assert pairs.issame.tolist() == [True]


class Calls:
    """Pickles to a call, as an attacker would write it."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_call_of_os_system_is_refused(tmp_path, protocol):
    mark = tmp_path / "owned"
    hostile = Calls(os.system, (f"touch {mark}",))
    path = write_bin(tmp_path, (IMAGES, [True, False, hostile]), protocol)
    with pytest.raises(DataError, match=r"refused: .*the global posix\.system"):
        PickledPairs(path)
    assert not mark.exists()
    # The same bytes do harm in an unpickler without limits.
    pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"global os\.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"global os\.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", r"global __builtin__\.eval"),
        (b"cnumpy\nload\n(S'x'\ntR.", r"global numpy\.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "fromfile"),
        (b"(S'true'\nios\nsystem\n.", "operation INST"),
        (b"(cnumpy\nndarray\no.", "operation OBJ"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "operation NEWOBJ"),
        (b"\x80\x02\x82\x01.", "operation EXT1"),
        (b"\x80\x02\x83\x01\x00.", "operation EXT2"),
        (b"Pname\n.", "operation PERSID"),
        (b"\x80\x02K\x01Q.", "operation BINPERSID"),
        (b"\x80\x02}.", "operation EMPTY_DICT"),
        (b"\x80\x05\x97.", "operation NEXT_BUFFER"),
        (b"\x80\x02K\x01r\xff\xff\xff\x7f.", "expected a pair"),
        (b"\x80\x02cnumpy\nndarray\nK\x09\x85R.", r"a call of numpy\.ndarray"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "expected a pair"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R.", "array of dtype 'V8'"),
        (b"\x80\x02cnumpy\nndarray\nN\x8aNb.", "alter a function|damaged"),
        (b"\x80\x02cnumpy\nndarray\nNb.", "alter a function"),
        (b"\x80\x02cnumpy\ndtype\nNN\x86b.", "alter a function"),
    ],
)
def test_hostile_pickles_are_refused(tmp_path, content, problem):
    with pytest.raises(DataError, match=problem):
        PickledPairs(write_bin(tmp_path, content))


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_of_objects_and_bytes_are_lists(tmp_path, protocol):
    images, same = [bytes(image) for image in IMAGES], [bool(one) for one in SAME]
    odd = [
        (np.array(images, object), np.array(same)),
        ([np.bytes_(image) for image in images], np.array(same, object)),
        (images, [1 if one else -1 for one in same]),
    ]
    for content in odd:
        pairs = PickledPairs(write_bin(tmp_path, content, protocol))
        assert pairs.issame.tolist() == same
        assert pairs.fetch(np.arange(len(pairs))) == images


@pytest.mark.parametrize("same", [[0, -1], [2, 0], ["1", "0"], [None, 1]])
def test_labels_of_other_kinds_are_refused(tmp_path, same):
    with pytest.raises(DataError, match=r"issame\[\d\] is"):
        PickledPairs(write_bin(tmp_path, (IMAGES[:4], same)))


def test_other_arrays_are_refused(tmp_path):
    hostile = np.array([Calls(os.system, ("true",)), 1], object)
    with pytest.raises(DataError, match=r"the global posix\.system"):
        PickledPairs(write_bin(tmp_path, (hostile, [True])))
    structured = np.zeros(2, dtype=[("a", "u1")])
    with pytest.raises(DataError, match="refused"):
        PickledPairs(write_bin(tmp_path, ([structured, structured], [True])))


def test_array_whose_size_is_not_that_of_its_data(tmp_path):
    data = pickle.dumps(([np.arange(5, dtype=np.uint8)] * 2, [True]), 2)
    wrong = data.replace(b"K\x05\x85", b"J" + struct.pack("<i", 1 << 30) + b"\x85")
    assert wrong != data
    with pytest.raises(DataError, match="damaged"):
        PickledPairs(write_bin(tmp_path, wrong))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ((IMAGES[:5], SAME), "5 images and 3 pairs"),
        ((IMAGES[:5], SAME[:2]), "5 images and 2 pairs"),
        ((IMAGES, SAME[:2]), "6 images and 2 pairs"),
        (([], []), "0 images and 0 pairs"),
        ((IMAGES, [True, False, 7]), r"issame\[2\] is"),
        ((IMAGES, [True, False, None]), r"issame\[2\] is"),
        (([*IMAGES[:5], "text"], SAME), "image 5 is"),
        (([*IMAGES[:5], np.zeros(3)], SAME), "image 5 is array of float64"),
        ((IMAGES, SAME, 1), "expected a pair"),
        (IMAGES, "expected a pair"),
        ((b"", SAME), "expected two lists"),
    ],
)
def test_bin_of_another_content(tmp_path, content, problem):
    with pytest.raises(DataError, match=problem):
        PickledPairs(write_bin(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04]("])
def test_bin_that_is_no_pickle(tmp_path, content):
    with pytest.raises(DataError, match="damaged or no verification pickle"):
        PickledPairs(write_bin(tmp_path, content))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_bin_cut_short(tmp_path, share):
    data = pickle.dumps((IMAGES, SAME))
    with pytest.raises(DataError, match="damaged"):
        PickledPairs(write_bin(tmp_path, data[: int(share * len(data))]))


def test_bin_of_known_name_with_other_count(tmp_path, caplog):
    path = write_bin(tmp_path, (IMAGES, SAME)).rename(tmp_path / "lfw.bin")
    open_set(path)
    assert "lfw is published with 6000 pairs, the file has 3" in caplog.text


def write_list(folder, text, images=("Ann_1", "Ann_2", "Bob_3", "Cy_4"), end=".jpg"):
    for image in images:
        person, number = image.split("_")
        (folder / person).mkdir(exist_ok=True)
        name = f"{person}_{int(number):04d}{end}"
        (folder / person / name).write_bytes(image.encode())
    path = folder / "pairs.txt"
    path.write_text(text)
    return f"{path}::{folder}"


PAIRS = "Ann\t1\t2\nAnn\t2\tBob\t3\nBob\t3\tCy\t4\nAnn\t2\t1\n"


@pytest.mark.parametrize("header", ["", "1\t2\n", "2\n"])
@pytest.mark.parametrize("end", [".jpg", ".png"])
@pytest.mark.parametrize("gap", ["\t", " ", "   "])
def test_pairs_list(tmp_path, caplog, header, end, gap):
    spec = write_list(tmp_path, (header + PAIRS).replace("\t", gap), end=end)
    pairs = open_set(spec)
    assert pairs.name == "pairs"
    assert pairs.issame.tolist() == [True, False, False, True]
    expected = b"Ann_1 Ann_2 Ann_2 Bob_3 Bob_3 Cy_4 Ann_2 Ann_1".split()
    assert pairs.fetch(np.arange(8)) == expected
    assert pairs.describe()["pairs"] == 4
    assert pairs.folds == (1 if header == "1\t2\n" else 0)
    assert pairs.notes == ["pairs.txt: 1 pair listed again, and scored again"]
    assert len(caplog.records) == 1


def test_pairs_list_shorter_than_its_first_line(tmp_path, caplog):
    assert open_set(write_list(tmp_path, "10\t300\n" + PAIRS)).folds == 10
    assert "declares 6000 pairs, the file has 4" in caplog.text


def test_pairs_list_with_missing_images(tmp_path):
    lines = "".join(f"Dan\t{i}\t{i + 1}\n" for i in range(1, 9))
    pairs = open_set(write_list(tmp_path, PAIRS + lines))
    assert pairs.missing == list(range(8, 24))
    note, again = pairs.describe()["notes"]
    assert not pairs.whole and "1 pair listed again" in again
    assert "9 of 13 images are not in" in note
    assert "Dan/Dan_0001, Dan/Dan_0002" in note and "Dan_0009" not in note
    assert pairs.fetch(np.array([7])) == [b"Ann_1"]
    with pytest.raises(DataError, match=r"Dan_0001\.jpg: cannot be read: No such"):
        pairs.fetch(np.array([8]))


def test_a_list_of_known_name_with_another_count(tmp_path):
    spec = write_list(tmp_path, PAIRS)
    (tmp_path / "pairs.txt").rename(tmp_path / "pair_SLLFW.txt")
    pairs = open_set(spec.replace("pairs.txt", "pair_SLLFW.txt"))
    note, _ = pairs.describe()["notes"]
    assert note == "pair_SLLFW.txt is published with 6000 pairs, the file has 4"
    assert pairs.folds == 0


def test_a_whole_list_of_known_name_has_ten_folds(tmp_path):
    lines = [f"Ann_0001.jpg {label}\n" * 2 for label in (1, 0) for _ in range(3000)]
    (tmp_path / "Ann_0001.jpg").touch()
    (tmp_path / "pairs_CALFW.txt").write_text("".join(lines))
    pairs = open_set(f"{tmp_path}/pairs_CALFW.txt::{tmp_path}")
    assert pairs.folds == 10 and pairs.whole
    assert pairs.notes == [
        "pairs_CALFW.txt: 5,999 pairs listed again, and scored again"
    ]
    assert pairs.issame.reshape(10, 600).sum(axis=1).tolist() == [300] * 10


def test_pairs_list_without_any_image(tmp_path):
    with pytest.raises(DataError, match=r"got none of the 4 images of pairs\.txt"):
        open_set(write_list(tmp_path, PAIRS, images=()))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no pair"),
        ("10\t300\n", "holds no pair"),
        ("Ann\t1\n" + PAIRS, "line 1 is"),
        (PAIRS + "Ann\t1\tBob\n", "line 5 is"),
        (PAIRS + "Ann\t1\tBob\t3\t4\n", "line 5 is"),
        (PAIRS + "a/b.jpg 1\n", "line 5 is"),
    ],
)
def test_pairs_list_of_another_form(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem):
        open_set(write_list(tmp_path, text))


def test_specs(tmp_path):
    with pytest.raises(ConfigError, match=r"eval\.sets: got 'lfw'"):
        open_set("lfw")
    with pytest.raises(DataError, match=r"has neither 04_FINAL.* nor AgeDB/04_FINAL"):
        open_set("agedb_30")
    with pytest.raises(DataError, match="cannot be read"):
        open_set(tmp_path / "none.bin")
    with pytest.raises(DataError, match="cannot be read"):
        open_set(f"{tmp_path}/none.txt::{tmp_path}")
    spec = write_list(tmp_path, PAIRS)
    with pytest.raises(DataError, match="no such folder"):
        open_set(spec + "/none")


def test_synthetic():
    config = get_config().eval
    config.synthetic.update({"identities": 4, "pairs": 6})
    pairs = open_pair_set("synthetic", config)
    assert len(pairs) == 12 and pairs.issame.shape == (6,)
    assert all(type(image) is bytes for image in pairs.fetch(np.array([0, 11])))


def test_real_faces(faces_dir):
    pairs = open_set(faces_dir / "lfw_open.bin")
    assert len(pairs) == 2400 and pairs.issame.sum() == 600
    assert all(data.startswith(b"\xff\xd8") for data in pairs.fetch(np.arange(2400)))
    folds = pairs.issame.reshape(2, 600)
    assert folds[:, :300].all() and not folds[:, 300:].any()
