"""PyTorch files that are made to break what reads them: one message, little memory."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from qface_jax import restricted_pickle
from qface_jax.errors import DataError
from qface_jax.weights import state_dict
from support.torch_writer import Call, Global, Stored, tensor, write_legacy, write_zip

FOUR = np.arange(4, dtype=np.float32)
MEMORY = 64 << 20  # bytes; the files ask for many times as much


def with_pickle(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/data/0", FOUR.tobytes())
    return path


def refused(path, says):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=says):
            state_dict.read(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def view(key="0", **claims):
    return tensor(key, FOUR, **claims)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"w": view(shape=(True,), strides=(1,))}, "makes no sense"),
        ({"w": view(shape=(1,) * 100, strides=(1,) * 100)}, "makes no sense"),
        ({"w": view(shape=(1 << 70,), strides=(0,))}, "repeat .* numbers"),
        ({f"w{n}": view(shape=(1 << 18,), strides=(0,), offset=n % 4)
          for n in range(3)} | {f"v{n}": view(shape=(1 << 22, n), strides=(0, 0))
                                for n in range(1, 4)}, "repeat .* numbers"),
    ],
)  # fmt: skip
def test_tensors_that_repeat_their_numbers(content, says, write, tmp_path):
    write(tmp_path / "w.pt", content)
    refused(tmp_path / "w.pt", says)


def test_equal_views_share_one_array(tmp_path):
    large = np.ones(1 << 20, np.float32)
    tied = {f"w{n}": tensor("0", large) for n in range(40)}
    write_zip(tmp_path / "w.pt", tied)
    tensors, _ = state_dict.read(tmp_path / "w.pt")
    assert len(tensors) == 40
    assert all(values is tensors["w0"] for values in tensors.values())


@pytest.mark.parametrize("bounds", [(-100, 4), (0, 1 << 60), (2, -1), (1.0, 2)])
def test_a_view_outside_of_its_storage(bounds, tmp_path):
    class Viewed(Stored):
        pass

    content = {"w": view()}
    path = tmp_path / "w.pt"
    write_legacy(path, content)
    # The older format has a view behind each storage: (key, first, count), or None.
    data = path.read_bytes()
    named = pickle.dumps(("v", *bounds), 2)[2:-1]
    end = b"K\x04N"  # four values, no view
    assert data.count(end) == 1
    path.write_bytes(data.replace(end, b"K\x04" + named))
    refused(path, "lies outside of it|damaged")


def test_a_dict_that_holds_itself(tmp_path):
    itself = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    refused(with_pickle(tmp_path / "w.pt", itself), "holds no tensors under names")
    deep = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 1000 + b"}" + b"s" * 1000 + b"."
    refused(with_pickle(tmp_path / "w.pt", deep), "more than 50 deep")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x02Nr" + struct.pack("<I", 0xFFFFFFF0) + b".", "no tensors"),  # memo
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "the file ends before"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "the file ends before"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "the file ends before"),
        (b"L" + b"1" * 100_000 + b"L\n.", "a line of over 65,536 bytes"),
        # A list of 100,000 entries that is copied 1,000 times.
        (b"\x80\x02ctorch\nSize\nq\x00](" + b"N" * 100_000 + b"eq\x01"
         + b"h\x00h\x01\x85R0" * 1000 + b".", "many times as large as the file"),
        (b"\x80\x02" + b"".join(b"cnumpy\na%d\n0" % n for n in range(10_001)) + b"N.",
         "names more than 10,000 classes"),
    ],
)  # fmt: skip
def test_pickles_that_ask_for_much(content, says, tmp_path):
    refused(with_pickle(tmp_path / "w.pt", content), says)


def test_operations_are_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(restricted_pickle, "MAX_OPERATIONS", 1000)
    path = with_pickle(tmp_path / "w.pt", b"\x80\x02" + b"N0" * 600 + b"N.")
    refused(path, "more than 1,000 operations")


def test_an_older_file_announces_more_than_it_holds(tmp_path):
    """In it the pickles are read from the file itself."""
    magic = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    hostile = b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x."
    (tmp_path / "w.pt").write_bytes(b"".join(magic) + hostile)
    refused(tmp_path / "w.pt", "the file ends before")


@pytest.mark.parametrize("member", ["a/data/0", "a/data.pkl", "a/byteorder"])
def test_members_that_become_large(member, tmp_path):
    write_zip(tmp_path / "good.pt", {"w": view()})
    with zipfile.ZipFile(tmp_path / "good.pt") as archive:
        content = archive.read("archive/data.pkl")
    files = {"a/data.pkl": content, "a/data/0": FOUR.tobytes()}
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (files | {member: bytes(200 << 20)}).items():
            archive.writestr(name, data)
    refused(tmp_path / "w.pt", f"{member}: .* become 209,715,200")


def test_archives_of_very_many_members(tmp_path):
    """Their directory is not read: it would be some GB of Python objects."""
    write_zip(tmp_path / "w.pt", {"w": view()})
    data = (tmp_path / "w.pt").read_bytes()
    at = data.rfind(b"PK\5\6")
    large = data[: at + 12] + struct.pack("<L", 17 << 20) + data[at + 16 :]
    (tmp_path / "w.pt").write_bytes(bytes(17 << 20) + large)
    refused(tmp_path / "w.pt", "directory has 17,825,792 bytes, expected at most")


def test_a_longer_storage_is_read_as_far_as_it_is_named(tmp_path):
    content = {"w": view()}
    write_zip(tmp_path / "w.pt", content)
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["archive/data/0"] += b"more"
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    tensors, _ = state_dict.read(tmp_path / "w.pt")
    np.testing.assert_array_equal(tensors["w"], FOUR)


def test_attributes_of_containers_are_left_out():
    content = b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aNsb."
    read = restricted_pickle.RestrictedUnpickler(
        io.BytesIO(content), lambda module, name: dict, encoding="utf-8"
    ).load()
    assert read == {}


def test_what_else_is_called_is_refused(tmp_path):
    hostile = {"w": view(), "x": Call("builtins", "bytes", 1 << 40)}
    write_zip(tmp_path / "w.pt", hostile)
    refused(tmp_path / "w.pt", r"asks for builtins\.bytes")
    write_zip(tmp_path / "w.pt", {"w": view(), "x": Global("os", "system")})
    refused(tmp_path / "w.pt", r"asks for os\.system")
