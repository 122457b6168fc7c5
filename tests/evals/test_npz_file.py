"""Arrays come back as they were; what a file only claims costs no memory."""

import io
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from qface_jax.evals import npz_file

ARRAYS = {
    "plain": np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32),
    "names": np.array([f"person {n}/ä.jpg" for n in range(40)]),
    "flags": np.arange(40) % 3 == 0,
    "one": np.array(3.5),
    "none": np.zeros((0, 4)),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
}


@pytest.fixture(params=[np.savez, np.savez_compressed])
def path(request, tmp_path):
    request.param(tmp_path / "a.npz", **ARRAYS)
    return tmp_path / "a.npz"


def test_round_trip(path):
    read = npz_file.read(path)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert npz_file.read(path, {"one", "other"}) == {"one": 3.5}


def test_no_flipped_bit_of_an_array_passes_unseen(path):
    whole, chance, seen = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            read = npz_file.read(path)
        except ValueError:
            seen += 1
            continue
        for name in read.keys() & ARRAYS.keys():  # a name may be another one
            np.testing.assert_array_equal(read[name], ARRAYS[name])
    assert seen > 75


def header(shape, descr="<f4"):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (64 - (10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a.npy", content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header((2**40,)) + bytes(64), "header says 4,398,046,511,104 bytes"),
        (header((2**20, 2**20, 2**20)) + bytes(64), "header says"),
        (header((-4,)) + bytes(64), "header says"),
        (header((17,)) + bytes(4), None),
        (header((1,), "|O") + bytes(64), "Python objects"),
        (header((1,), "nonsense") + bytes(64), None),
        (b"\x93NUMPY\x09\x00" + bytes(64), "unknown version"),
        (b"no array", None),
        (b"", None),
    ],
)
def test_an_array_that_is_none_is_refused_before_memory_is_taken(
    tmp_path, content, says
):
    archive(tmp_path / "a.npz", content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=says):
        npz_file.read(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "SPARE", 2**16)
    bomb = header((2**20,)) + bytes(2**22)
    archive(tmp_path / "a.npz", bomb, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="unpacks to far more than it has"):
        npz_file.read(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path):
    single = io.BytesIO()
    np.save(single, np.arange(3))
    for content in (b"", b"text", single.getvalue(), b"PK\x03\x04 cut short"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"no \.npz file"):
            npz_file.read(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        npz_file.read(tmp_path / "none.npz")
