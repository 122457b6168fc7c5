"""PyTorch's files, read without PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from qface_jax.errors import DataError
from qface_jax.weights import state_dict
from support.torch_writer import Call, Global, tensor, write_legacy, write_zip
from support.torch_writer import state_dict as stored


def tensors_of(path, key=""):
    return state_dict.read(path, key)[0]


GOLDEN = Path(__file__).parents[2] / "golden"
WRITERS = {"zip": write_zip, "legacy": write_legacy}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """Writes a file in one of the formats and returns its path."""

    def write_file(content):
        path = tmp_path / "weights.pt"
        WRITERS[request.param](path, content)
        return path

    return write_file


def expected():
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    # bfloat16 of 24 bits keeps 8 of them; 1.01 there is 1.0078125.
    low = (base.view(np.uint32) >> 16 << 16).view(np.float32)
    return {
        "base": base,
        "transposed": base.T,
        "view": base[1:3, 2:5],
        "strided": base[:, ::2],
        "expanded": np.broadcast_to(base[0], (3, 6)),
        "half": base.astype(np.float16),
        "bfloat16": low,
        "double": base.astype(np.float64) / 3,
        "int8": base.astype(np.int8),
        "int64": base.astype(np.int64),
        "bool": base > 3,
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": base + 1,
        "tagged": base,
    }


@pytest.mark.parametrize(
    ("file", "prefix"),
    [
        ("torch_zip.pt", ""),
        ("torch_legacy.pt", ""),
        ("torch_checkpoint.ckpt", "model."),
    ],
)
def test_files_of_torch_itself(file, prefix):
    tensors = tensors_of(GOLDEN / file)
    wanted = expected()
    assert set(tensors) == {prefix + name for name in wanted}
    for name, values in wanted.items():
        read = tensors[prefix + name]
        if name == "bfloat16":
            np.testing.assert_allclose(read, values * 1.01, rtol=2**-8)
            assert not np.any(read.view(np.uint32) & 0xFFFF)
        else:
            np.testing.assert_array_equal(read, values)
            assert read.dtype == np.asarray(values).dtype


def test_storages_of_a_gpu_come_to_the_cpu(write):
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.arange(4)}
    tensors = tensors_of(write(stored(arrays, location="cuda:0")))
    for name, values in arrays.items():
        np.testing.assert_array_equal(tensors[name], values)


@pytest.mark.parametrize(
    "call",
    [
        ("os", "system", "touch"),
        ("posix", "system", "touch"),
        ("builtins", "eval", "1"),
        ("builtins", "getattr", "os"),
        ("torch", "load", "file"),
        ("torch.storage", "_load_from_bytes", b""),
        ("numpy.testing._private.utils", "runstring", "1"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(call, write, tmp_path):
    module, name, argument = call
    marker = tmp_path / "it_ran"
    argument = f"touch {marker}" if argument == "touch" else argument
    content = stored({"a": np.zeros(3, np.float32)}) | {
        "x": Call(module, name, argument)
    }
    if module.startswith("numpy"):
        # Inert: it becomes a stand-in, and nothing is called.
        assert list(tensors_of(write(content))) == ["a"]
        return
    with pytest.raises(DataError, match=rf"it asks for {module}\.{name}; only tensors"):
        tensors_of(write(content))
    assert not marker.exists()


def test_the_book_keeping_of_a_trainer_is_passed_over(write):
    monitor = Global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    settings = Call("pytorch_lightning.utilities.parsing", "AttributeDict", {"lr": 0.1})
    content = {
        "callbacks": {monitor: {"best": 1.0}},
        "hyper_parameters": settings,
        "scalar": Call("numpy.core.multiarray", "scalar", "f8", b"12345678"),
        "state_dict": stored({"model.a": np.ones(3, np.float32)}),
    }
    assert list(tensors_of(write(content))) == ["model.a"]


def test_a_whole_module_is_refused_and_says_how_to_mend(write):
    content = {"model": Global("torch.nn.modules.linear", "Linear")}
    with pytest.raises(DataError, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        tensors_of(write(content))


@pytest.mark.parametrize(
    "view",
    [
        {"offset": 1},
        {"shape": (3, 3)},
        {"strides": (4, 1)},
        {"strides": (-3, 1)},
        {"offset": -1},
        {"shape": (2, 10**12), "strides": (0, 0)},
        {"shape": (2, 3, 1)},
        {"shape": ("2", 3)},
    ],
)
def test_a_view_beyond_its_storage_is_refused(view, write):
    values = np.zeros((2, 3), np.float32)
    with pytest.raises(DataError, match=r"does not lie within|makes no sense|repeat"):
        tensors_of(write({"a": tensor("0", values, **view)}))


def test_a_file_that_is_cut_off_is_refused(write):
    path = write(stored({"a": np.zeros(1000, np.float32)}))
    whole = path.read_bytes()
    for size in (0, 3, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=str(path)):
            tensors_of(path)


def test_which_tensors_of_a_checkpoint_are_the_weights(write):
    good = stored({"w": np.ones(2, np.float32)})
    other = {"v": tensor("7", np.zeros(2, np.float32))}
    tensors = tensors_of(write({"epoch": 1, "state_dict": good} | other))
    assert list(tensors) == ["w"]
    assert list(tensors_of(write({"odd": {"name": good}}))) == ["w"]
    with pytest.raises(DataError, match=r"several sets of tensors \(one, two\)"):
        tensors_of(write({"one": good, "two": other}))
    with pytest.raises(DataError, match="no tensors under names"):
        tensors_of(write({"epoch": 1}))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int64"])
def test_safetensors(kind, tmp_path):
    import jax.numpy as jnp
    from safetensors.flax import save_file

    values = np.arange(6).reshape(2, 3)
    if kind == "int64":
        from safetensors.numpy import save_file

        tensor_ = values
    else:
        tensor_ = jnp.asarray(values, kind)
    save_file({"a": tensor_}, tmp_path / "a.safetensors")
    tensors = tensors_of(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(tensors["a"].astype(np.float32), values)
    (tmp_path / "a.safetensors").write_bytes(b"no such thing")
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        tensors_of(tmp_path / "a.safetensors")
