"""`qface import` of files whose model would be wrong without a word."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from qface_jax.launch import main
from qface_jax.runs import run_folder
from support import drawn_weights
from support.onnx_model import Case, model, number
from support.torch_writer import state_dict as stored
from support.torch_writer import write_zip

# One layer on all pixels: pictures that differ have embeddings that do.
LINEAR = "f = Flatten (x) h = Gemm <transB = 1> (f, w)"
SHAPE = (8, 3 * 112 * 112)


def weights(seed=0):
    return np.random.default_rng(seed).normal(0, 0.01, SHAPE).astype(np.float32)


def saved(path, body=LINEAR, **tensors):
    tensors = {"w": weights()} | tensors
    onnx.save(model(Case(body, tensors), batch=1, side=112), path)
    return path


def imported(path, *words):
    return main.main(["import", str(path), str(path.parent / "run"), *words])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value, tmp_path, capsys):
    damaged = weights()
    damaged[3, 7] = value
    path = saved(tmp_path / "a.onnx", w=damaged)
    assert imported(path) == 2
    said = capsys.readouterr().err
    assert "1 of 1 weights hold NaN or infinity, as params/" in said
    assert "(1 of 301,056 numbers)" in said
    assert not (tmp_path / "run").exists()


def test_weights_of_pytorch_that_are_not_finite(golden, tmp_path, capsys):
    tensors = drawn_weights.state_dict(golden("published_networks")["mobilefacenet"])
    name = next(name for name in tensors if name.endswith("running_var"))
    tensors[name] = np.full_like(tensors[name], np.nan)
    write_zip(tmp_path / "w.pt", stored(tensors))
    assert imported(tmp_path / "w.pt") == 2
    assert "weights hold NaN or infinity, as stats/" in capsys.readouterr().err


def test_an_embedding_that_is_not_finite(tmp_path, capsys):
    body = f"{LINEAR.replace('h =', 'g =')} h = Mul (g, k)"
    path = saved(tmp_path / "a.onnx", body, k=number(np.nan))
    assert imported(path) == 2
    assert "embeddings that are 0 or not finite" in capsys.readouterr().err


def test_a_network_to_which_all_pictures_are_alike(tmp_path, capsys):
    """As where pixels near 0 meet a large bias: a deviation that is far too large."""
    path = saved(tmp_path / "a.onnx", LINEAR.replace("w)", "w, b)"), b=(8,))
    assert imported(path, "--std=1e5") == 2
    said = capsys.readouterr().err
    assert "all pictures have almost the same embedding" in said
    assert not (tmp_path / "run").exists()
    assert imported(path, "--std=1e5", "--allow-alike") == 0
    assert "cosines of 1.00 and above" in capsys.readouterr().err


NORMALISES = "s = Sub (x, m) t = Mul (s, d) f = Flatten (t) "
NORMALISES += "h = Gemm <transB = 1> (f, w, b)"


def normalising(path):
    tensors = {"m": number(127.5), "d": number(1 / 127.5), "b": (8,)}
    return saved(path, NORMALISES, **tensors)


def test_a_graph_that_normalises_gets_pixels(tmp_path, capsys):
    assert imported(normalising(tmp_path / "a.onnx")) == 0
    said = capsys.readouterr().err
    assert "input taken to be RGB, (x - 0) / 1 of pixels 0..255, the graph " in said
    assert "normalises by itself, its first operators are Sub, Mul" in said
    config = run_folder.read(tmp_path / "run").config
    assert (config.model.input_mean, config.model.input_std) == ((0.0,) * 3, (1.0,) * 3)


def test_a_second_normalisation_is_said_and_refused(tmp_path, capsys):
    path = normalising(tmp_path / "a.onnx")
    assert imported(path, "--preprocess=insightface") == 2
    said = capsys.readouterr().err
    assert "warning: the graph normalises by itself" in said
    assert "all pictures have almost the same embedding" in said


def test_the_tolerance_is_that_of_the_precision(tmp_path, capsys):
    """Half precision all the way: differences of its roundings are none."""
    body = (
        "c = Cast <to = 10> (x) f = Flatten (c) g = Gemm <transB = 1> (f, w) "
        "h = Cast <to = 1> (g)"
    )
    path = saved(tmp_path / "a.onnx", body, w=weights().astype(np.float16))
    assert imported(path) == 0
    said = capsys.readouterr()
    share = float(said.out.split("largest difference ")[1].split(" ")[0])
    assert 1e-5 < share < 2e-3
    path = saved(tmp_path / "b.onnx", body, w=weights().astype(np.float16))
    words = ["import", str(path), str(tmp_path / "other"), f"--tolerance={share / 2}"]
    assert main.main(words) == 2
    assert "differs from its source by more than" in capsys.readouterr().err


def test_endings_in_capitals(tmp_path, capsys):
    assert imported(saved(tmp_path / "MODEL.ONNX")) == 0
    assert "agrees with" in capsys.readouterr().out
    assert run_folder.read(tmp_path / "run").config.model.backbone == "onnx"


def test_one_of_several_networks_of_a_file(golden, tmp_path, capsys):
    recorded = golden("published_networks")["mobilefacenet"]
    one = drawn_weights.state_dict(recorded)
    both = {f"{name}.{key}": one[key] for name in ("student", "ema") for key in one}
    write_zip(tmp_path / "w.pt", {"state_dict": stored(both)})
    assert imported(tmp_path / "w.pt") == 2
    said = capsys.readouterr().err
    assert "2 networks of insightface MobileFaceNet" in said
    assert "their tensors under 'student', 'ema'" in said
    assert imported(tmp_path / "w.pt", "--key=ema") == 0
    assert imported(saved(tmp_path / "a.onnx"), "--key=ema") == 2


def test_what_onnxruntime_cannot_run_is_one_message(tmp_path, capsys):
    """A part of the graph that nobody reads is left out here, but not there."""
    proto = model(Case(LINEAR, {"w": weights()}), batch=1, side=112)
    for name, value in (("a", 0), ("b", 1 << 50), ("d", 1)):
        tensor = numpy_helper.from_array(np.asarray(value, np.int64), name)
        proto.graph.initializer.append(tensor)
    proto.graph.node.append(onnx.helper.make_node("Range", ["a", "b", "d"], ["r"]))
    output = onnx.helper.make_tensor_value_info("r", TensorProto.INT64, ["R"])
    proto.graph.output.append(output)
    onnx.save(proto, tmp_path / "a.onnx")
    assert imported(tmp_path / "a.onnx") == 2
    assert "a.onnx: onnxruntime cannot" in capsys.readouterr().err
