"""Which tensors of a file are taken, and which types are read."""

import json
import struct

import numpy as np
import pytest

from qface_jax.errors import DataError
from qface_jax.weights import state_dict, structures
from support.torch_writer import state_dict as stored
from support.torch_writer import write_zip

ONE, TWO = np.ones(2, np.float32), np.full(2, 2.0, np.float32)


def tensors(prefix="", values=ONE):
    return {f"{prefix}a": values, f"{prefix}b": values}


def written(path, **sets):
    """Writes several state dicts in one file; the keys of their storages differ."""
    flat = {(name, key): values for name in sets for key, values in sets[name].items()}
    content = {name: {} for name in sets}
    for (name, key), leaf in stored(flat).items():
        content[name][key] = leaf
    write_zip(path, content)
    return path


def test_the_usual_one_is_taken_and_the_others_are_named(tmp_path):
    path = written(tmp_path / "w.pt", ema=tensors(values=TWO), model=tensors())
    found, said = state_dict.read(path)
    np.testing.assert_array_equal(found["a"], ONE)
    assert said == [
        "took the tensors under model; left out: ema (qface import --key=NAME takes "
        "another)"
    ]
    found, said = state_dict.read(path, "ema")
    np.testing.assert_array_equal(found["a"], TWO)
    assert said == []


def test_the_beginning_of_names_chooses(tmp_path):
    both = tensors("student.") | tensors("teacher.", TWO)
    path = written(tmp_path / "w.pt", state_dict=both)
    found, _ = state_dict.read(path, "teacher")
    assert found.keys() == {"teacher.a", "teacher.b"}
    with pytest.raises(DataError, match=r"--key=ema: .* begin with student, teacher"):
        state_dict.read(path, "ema")


def test_two_networks_under_one_name_are_not_guessed_between():
    marker = structures.FAMILIES[0].marker
    shapes = {f"student.{marker}": (64,), f"teacher.{marker}": (64,)}
    with pytest.raises(DataError, match="under 'student', 'teacher'; choose one"):
        structures.recognise(shapes)


def safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2"])
def test_types_that_are_not_read_are_named(kind, tmp_path):
    header = {"a": {"dtype": kind, "shape": [4], "data_offsets": [0, 4]}}
    path = safetensors(tmp_path / "w.safetensors", header, bytes(4))
    with pytest.raises(DataError, match=f"types that are not read, as a of {kind}"):
        state_dict.read(path)


def test_there_are_not_too_many_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(state_dict, "MAX_TENSORS", 3)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = {f"k{number}": entry for number in range(4)}
    path = safetensors(tmp_path / "w.safetensors", header, b"")
    with pytest.raises(DataError, match="got 4 tensors, expected at most 3"):
        state_dict.read(path)
    path = written(tmp_path / "w.pt", model=tensors() | tensors("c"))
    with pytest.raises(DataError, match="got 4 tensors, expected at most 3"):
        state_dict.read(path)


def test_endings_in_capitals(tmp_path):
    header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    path = safetensors(tmp_path / "w.SAFETENSORS", header, struct.pack("<f", 3.0))
    found, _ = state_dict.read(path)
    assert found["a"].tolist() == [3.0]
    assert state_dict.facts(path) == {}
