"""What an ONNX file's tensors become, and what is refused."""

import sys

import jax
import numpy as np
import pytest
from flax import traverse_util
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from qface_jax.errors import ConfigError, DataError
from qface_jax.weights import onnx_file, onnx_weights
from support.onnx_model import SIDE, Case, ints, model, number, read


def flat(tree):
    return {
        "/".join(path): leaf for path, leaf in traverse_util.flatten_dict(tree).items()
    }


BODY = (
    "s = Sub (x, pixel_mean) t = Div (s, pixel_std) "
    "c = Conv (t, conv1.0.weight, conv1.0.bias) "
    "n = BatchNormalization (c, bn.weight, bn.bias, bn.running_mean, bn.running_var) "
    "p = PRelu (n, act.weight) k = Clip (p, low, high) a = Add (k, position) "
    "m = Mul (a, two) r = Reshape (m, shape) g = Gemm <transB = 1> (r, fc.weight) "
    "h = Concat <axis = 1> (g, token)"
)


def identifiers(body):
    """ONNX's text form knows no dots in names; a double underscore stands for one."""
    return body.replace(".", "__")


def dotted(proto):
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = name.replace("__", ".")
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.replace("__", ".")
    return proto


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    weights = {
        "pixel_mean": (3, 1, 1), "pixel_std": number([[[1]], [[2]], [[3]]]),
        "conv1.0.weight": (4, 3, 3, 3), "conv1.0.bias": (4,), "bn.weight": (4,),
        "bn.bias": (4,), "bn.running_mean": (4,), "bn.running_var": np.ones(4, "f4"),
        "act.weight": (4, 1, 1), "low": number(-1.0), "high": number(1.0),
        "position": (1, 4, 4, 4), "two": number(2.0), "shape": ints(-1, 64),
        "fc.weight": (5, 64), "token": (1, 2),
    }  # fmt: skip
    renamed = {identifiers(name): weight for name, weight in weights.items()}
    proto = dotted(model(Case(identifiers(BODY), renamed), batch=1))
    return proto, read(proto, tmp_path_factory.mktemp("network"))


def test_tensors_are_sorted_and_named(network):
    proto, onnx_model = network
    shapes = {name: leaf.shape for name, leaf in flat(onnx_model.params).items()}
    assert shapes == {
        "conv1_0/kernel": (3, 3, 3, 4),
        "conv1_0/bias": (4,),
        "bn/scale": (4,),
        "bn/bias": (4,),
        "act/negative_slope": (4, 1, 1),
        "position/bias": (1, 4, 4, 4),
        "fc/kernel": (64, 5),
        "token": (1, 2),
    }
    assert flat(onnx_model.stats).keys() == {"bn/mean", "bn/var"}
    constants = {"pixel_mean", "pixel_std", "low", "high", "two", "shape"}
    assert onnx_model.graph.constants.keys() == constants
    assert (onnx_model.embedding_dim, onnx_model.input_side, onnx_model.opset) == (
        7,
        SIDE,
        21,
    )
    tensors = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer
    }
    kernel = tensors["conv1.0.weight"].transpose(2, 3, 1, 0)
    assert_array_equal(onnx_model.params["conv1_0"]["kernel"], kernel)
    assert_array_equal(onnx_model.params["fc"]["kernel"], tensors["fc.weight"].T)


@pytest.mark.parametrize(
    ("tensor", "operator", "node", "kind", "path"),
    [
        ("layer1.0.bn1.weight", "Conv", "n", "scale", "layer1_0/bn1/scale"),
        ("onnx::Conv_529", "Conv", "/conv1/conv1.0/Conv", "kernel", "conv1_0/kernel"),
        ("x.1", "Conv", "/a/a.2/conv/b.1/Conv_3", "bias", "a_2/conv/b_1/bias"),
        ("519", "Conv", "Conv_0", "kernel", "Conv_0/kernel"),
        ("conv0_weight", "Conv", "conv0", "kernel", "conv0/kernel"),
        ("bn_data_gamma", "BatchNormalization", "n", "scale", "bn_data/scale"),
        ("668", "PRelu", "/act/PRelu", "negative_slope", "act/negative_slope"),
        ("pos_embed", "Expand", "/Expand", None, "pos_embed"),
        ("/Constant_1_output_0", "MatMul", "/mlp/MatMul", "kernel", "mlp/kernel"),
        ("conv1.weight_bias", "Conv", "n", "bias", "conv1/bias"),
        ("weight", "Conv", "stem", "kernel", "stem/kernel"),
        (
            "model/dense/kernel:0",
            "MatMul",
            "n",
            "kernel",
            "model/dense/kernel",
        ),
        ("val_7", "Gather", "node_gather", None, "node_gather/value"),
    ],
)
def test_names_are_readable(tensor, operator, node, kind, path):
    assert "/".join(onnx_weights.weight_path(tensor, operator, node, kind)) == path


def test_no_weight_hides_another():
    taken = set()
    paths = [["a", "bias"], ["a", "bias"], ["a"], ["a", "bias", "kernel"], ["b"]]
    unique = [onnx_weights.unique_path(path, taken) for path in paths]
    assert unique[:2] == [("a", "bias"), ("a_2", "bias")]
    assert len(set(unique)) == len(paths)
    for path in unique:
        others = [other[: len(path)] for other in unique if other != path]
        assert path not in others


def test_equal_tensors_stored_once_are_weights_of_their_own(tmp_path):
    body = "v = Identity (w) r = Relu (x) a = Mul (r, w) h = Mul (a, v)"
    onnx_model = read(model(Case(body, {"w": (3, 1, 1)})), tmp_path)
    assert len(jax.tree.leaves(onnx_model.params)) == 2
    body = "r = Relu (x) a = Mul (r, w) b = MatMul (a, k) c = MatMul (b, k) "
    weights = {"w": (3, 1, 1), "k": (6, 6)}
    onnx_model = read(model(Case(body + "h = Mul (c, w)", weights)), tmp_path)
    # A kernel that two layers read is one.
    assert flat(onnx_model.params).keys() == {"Mul_1/scale", "k/kernel", "Mul_4/scale"}


def test_weights_in_constant_nodes_train(tmp_path):
    proto = model(Case("h = MatMul (x, w)", {"w": (6, 2)}))
    tensor = proto.graph.initializer.pop()
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    onnx_model = read(proto, tmp_path)
    (kernel,) = jax.tree.leaves(onnx_model.params)
    assert_array_equal(kernel, numpy_helper.to_array(tensor))


def test_half_precision_becomes_float32(tmp_path):
    body = "c = Cast <to = 10> (x) m = MatMul (c, w) h = Cast <to = 1> (m)"
    half = np.arange(12).reshape(6, 2).astype(np.float16)
    onnx_model = read(model(Case(body, {"w": half})), tmp_path)
    (kernel,) = jax.tree.leaves(onnx_model.params)
    assert kernel.dtype == np.float32
    assert_array_equal(kernel, half.astype(np.float32))


def test_other_outputs_are_left_out_and_told(tmp_path):
    proto = model(Case("h = Relu (x) n = NonZero (h)"))
    extra = helper.make_tensor_value_info("n", TensorProto.INT64, [4, "K"])
    proto.graph.output.append(extra)
    assert read(proto, tmp_path).unused_outputs == ("n",)


def resized(proto, *sizes, kind=TensorProto.FLOAT):
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, sizes))
    return proto


RELU = Case("h = Relu (x)")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: model(Case(
                "n = NonZero (x) d = Det (x) e = Det (x) g = Add (d, e) "
                "f = Cast <to = 1> (n) h = Mul (f, g)"
            )),
            r"2 things cannot be mapped: operator NonZero \(NonZero_0\); operator Det",
        ),
        (
            lambda: model(Case("h = Softmax <axis = 1, temperature = 2.0> (x)")),
            "attribute temperature of Softmax",
        ),
        (
            lambda: model(Case("m = GlobalMaxPool (x) h = BatchNormalization (x, w, w, "
                               "w, m)", {"w": (3,)})),
            "statistics of BatchNormalization_1 that are computed",
        ),
        (
            lambda: model(Case("i = Cast <to = 7> (x) s = ReduceMax <keepdims = 0> (i) "
                               "v = Unsqueeze (s, z) h = Reshape (x, v)",
                               {"z": ints(0)})),
            r"Reshape Reshape_3: its shape depends on the image's pixels",
        ),
        (lambda: model(RELU._replace(opset=6)), "got opset 6, expected 7 to 23"),
        (lambda: model(RELU, batch=4), "batches of exactly 4 images"),
        (lambda: resized(model(RELU), 1, 1, 6, 6), "expected square pictures"),
        (lambda: resized(model(RELU), 1, 3, 6, 7), "expected square pictures"),
        (lambda: resized(model(RELU), 1, 3, 6), "expected float pictures"),
        (
            lambda: resized(model(RELU), 1, 3, 6, 6, kind=TensorProto.UINT8),
            "expected float pictures",
        ),
        (
            lambda: model(Case("h = Add (x, other)")),
            "Add Add_0: reads other, which nothing makes",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_named(make, says, tmp_path):
    with pytest.raises(DataError, match=says):
        read(make(), tmp_path)


def test_two_inputs_are_refused(tmp_path):
    proto = model(Case("h = Add (x, z)"))
    proto.graph.input.append(
        helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    )
    with pytest.raises(DataError, match=r"got the inputs x, z; expected one"):
        read(proto, tmp_path)


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "weights.onnx"
    path.write_bytes(b"\xff\xfe no protobuf")
    with pytest.raises(DataError, match=r"weights.onnx: (cannot be read|got an empty)"):
        onnx_file.read(path)
    with pytest.raises(DataError, match=r"absent\.onnx"):
        onnx_file.read(tmp_path / "absent.onnx")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'qface-jax\[import\]'"):
        onnx_file.read(tmp_path / "network.onnx")
