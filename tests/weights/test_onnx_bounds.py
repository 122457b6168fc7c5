"""ONNX files that ask for too much, or are damaged: one message each, at once."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qface_jax.errors import DataError
from qface_jax.models.onnx.graph import Node
from qface_jax.weights import onnx_contents, onnx_entrance, onnx_file
from support.onnx_model import Case, ints, model, number, read

KERNEL = {"w": (6, 2)}
MULTIPLY = Case("h = MatMul (x, w)", KERNEL)


def with_tensor(change):
    proto = model(MULTIPLY)
    change(proto.graph.initializer[0])
    return proto


def dims(*sizes):
    def change(tensor):
        tensor.dims[:] = sizes

    return change


def of_type(kind):
    def change(tensor):
        tensor.data_type = kind

    return change


def cut(tensor):
    tensor.raw_data = tensor.raw_data[:10]


def with_constant(**change):
    proto = model(Case("h = MatMul (x, w)"))
    node = helper.make_node("Constant", [], ["w"], **change)
    proto.graph.node.insert(0, node)
    return proto


def without_output():
    proto = with_constant(value_float=1.0)
    proto.graph.node[0].ClearField("output")
    return proto


def with_bad_text():
    proto = model(MULTIPLY)
    attribute = proto.graph.node[0].attribute.add()
    attribute.name, attribute.type = "q", onnx.AttributeProto.STRING
    attribute.s = b"\xff\xfe\x80"
    return proto


def twice():
    proto = model(MULTIPLY)
    proto.graph.initializer.append(proto.graph.initializer[0])
    return proto


def in_a_cycle():
    proto = model(Case("a = Add (x, b) b = Relu (a) h = MatMul (b, w)", KERNEL))
    return proto


def with_functions(calls):
    """Functions F0, F1, ...; each calls those of its list."""
    proto = model(Case("h = MatMul (x, w)", KERNEL))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    for number_, called in enumerate(calls):
        names = [f"v{place}" for place in range(len(called) + 1)]
        nodes = [
            helper.make_node(name, [before], [after], domain=domain)
            for name, domain, before, after in zip(
                [f"F{one}" if one is not None else "Relu" for one in called],
                ["own" if one is not None else "" for one in called],
                names[:-1],
                names[1:],
                strict=True,
            )
        ]
        proto.functions.append(
            helper.make_function(
                "own", f"F{number_}", names[:1], names[-1:], nodes, opsets
            )
        )
    proto.opset_import.append(opsets[1])
    proto.graph.node.insert(0, helper.make_node("F0", ["x"], ["z"], domain="own"))
    proto.graph.node[1].input[0] = "z"
    return proto


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: with_tensor(dims(2**40, 2**30)), "the tensor 'w', .* cannot be read"),
        (lambda: with_tensor(dims(-6, 2)), "the tensor 'w', .* cannot be read"),
        (lambda: with_tensor(of_type(99)), "of ONNX type 99, cannot be read"),
        (lambda: with_tensor(of_type(TensorProto.STRING)), "type 8, cannot be read"),
        (lambda: with_tensor(cut), "the tensor 'w', .* cannot be read"),
        (with_constant, "Constant Constant_0 has 0 attributes, expected its value"),
        (without_output, "Constant Constant_0 has 0 outputs, expected one"),
        (
            lambda: with_constant(value_string="x"),
            "Constant Constant_0: value_string holds no numbers",
        ),
        (with_bad_text, "the attribute 'q' of MatMul MatMul_0 cannot be read"),
        (twice, "1 values are made more than once, as 'w'"),
        (in_a_cycle, r"in a cycle: (Add_0, Relu_1, Add_0|Relu_1, Add_0, Relu_1)"),
        (lambda: with_functions([[0]]), "call themselves: F0 -> F0"),
        (lambda: with_functions([[1], [2], [1]]), "call themselves: F1 -> F2 -> F1"),
        (
            lambda: with_functions([*([n + 1] * 10 for n in range(9)), [None]]),
            r"got 1,000,000,002 nodes or more, expected at most 5,000",
        ),
    ],
)  # fmt: skip
def test_damaged_files_are_one_message(make, says, tmp_path):
    with pytest.raises(DataError, match=says):
        read(make(), tmp_path)


def test_functions_that_end_are_written_out(tmp_path):
    assert read(with_functions([[1, 1], [None, None]]), tmp_path).embedding_dim == 36


def test_nodes_are_counted_before_the_file_is_parsed(tmp_path, monkeypatch):
    proto = model(Case("h = MatMul (x, w)", KERNEL))
    dead = helper.make_node("Relu", ["x"], ["d"])
    proto.graph.node.extend([dead] * onnx_contents.MAX_NODES)
    path = tmp_path / "network.onnx"
    onnx.save(proto, path)
    monkeypatch.setattr(onnx, "load", None)
    with pytest.raises(DataError, match="got 5,001 nodes or more, expected at most"):
        onnx_file.read(path)


def test_convolutions_are_counted(tmp_path):
    body = "c0 = Conv (x, w) " + " ".join(
        f"c{n + 1} = Conv (c{n}, w)" for n in range(1000)
    )
    proto = model(Case(f"{body} h = Relu (c1000)", {"w": (3, 3, 1, 1)}))
    with pytest.raises(DataError, match="got 1,001 convolutions, expected at most"):
        read(proto, tmp_path)


HUGE = 1 << 40


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("c = ConstantOfShape (s) h = Add (x, c)", {"s": ints(1 << 20, 1 << 20)}),
        ("c = ConstantOfShape (s) h = Add (x, c)", {"s": ints(-1)}),
        ("c = Expand (one, s) h = Add (x, c)", {"s": ints(HUGE), "one": ints(1)}),
        ("h = Expand (x, s)", {"s": ints(1 << 20, 1 << 10, 8, 1, 1, 1)}),
        ("c = Tile (one, s) h = Add (x, c)", {"s": ints(HUGE), "one": ints(1)}),
        ("h = Tile (x, s)", {"s": ints(1, 1, 1, HUGE)}),
        ("c = Range (a, b, d) h = Add (x, c)", {"a": ints(0).reshape(()),
         "b": ints(HUGE).reshape(()), "d": ints(1).reshape(())}),
        ("c = Range (a, a, a) h = Add (x, c)", {"a": ints(0).reshape(())}),
        ("c = Add (a, b) d = ReduceMax (c) h = Add (x, d)",
         {"a": np.zeros((1 << 13, 1), np.int64), "b": np.zeros(1 << 13, np.int64)}),
        ("c = Gather (a, b) d = ReduceMax (c) h = Add (x, d)",
         {"a": np.zeros((1, 1 << 13), np.int64), "b": np.zeros(1 << 13, np.int64)}),
        ("c = MatMul (a, b) d = ReduceMax (c) h = Add (x, d)",
         {"a": np.zeros((1 << 12, 1), np.int64),
          "b": np.zeros((1, 1 << 12), np.int64)}),
        ("h = MaxPool <kernel_shape = [1048576, 1048576], pads = [1048576, 1048576, "
         "1048576, 1048576], dilations = [2, 2]> (x)", {}),
        ("h = AveragePool <kernel_shape = [2, 2], strides = [0, 1]> (x)", {}),
        ("h = Conv <pads = [1000000, 0, 0, 0]> (x, w)", {"w": (2, 3, 3, 3)}),
    ],
)  # fmt: skip
def test_values_of_any_size_are_not_made(body, weights, tmp_path):
    with pytest.raises(DataError, match="expected"):
        read(model(Case(body, weights)), tmp_path)


def test_many_values_together_are_too_many(tmp_path):
    """Each is allowed, all of them would be 512 MB."""
    body = " ".join(f"c{n} = ConstantOfShape (s)" for n in range(17))
    total = ", ".join(f"c{n}" for n in range(17))
    body += f" m = Max ({total}) r = ReduceMax (m) h = Add (x, r)"
    with pytest.raises(DataError, match=r"67,108,864 in all"):
        read(model(Case(body, {"s": ints(1 << 22)})), tmp_path)


def test_the_embedding_is_bounded(tmp_path):
    body = "h = Tile (x, s)"
    with pytest.raises(DataError, match=r"expected 1 to 65,536; is its first output"):
        read(model(Case(body, {"s": ints(1, 1, 100, 100)})), tmp_path)


def half(values):
    return np.asarray(values, np.float16)


def bfloat16(proto):
    tensor = proto.graph.initializer[0]
    low = numpy_helper.to_array(tensor).view(np.uint32) >> 16
    tensor.data_type = TensorProto.BFLOAT16
    tensor.raw_data = low.astype(np.uint16).tobytes()
    return proto


def test_the_precision_of_the_source(tmp_path):
    assert read(model(MULTIPLY), tmp_path).precision == "float32"
    body = "c = Cast <to = 10> (x) m = MatMul (c, w) h = Cast <to = 1> (m)"
    low = model(Case(body, {"w": half(np.ones((6, 2)))}))
    assert read(low, tmp_path).precision == "float16"
    body = "v = Cast <to = 1> (w) h = MatMul (x, v)"
    assert read(bfloat16(model(Case(body, KERNEL))), tmp_path).precision == "bfloat16"


@pytest.mark.parametrize(
    ("body", "weights", "takes", "operators"),
    [
        ("s = Sub (x, a) h = Mul (s, b)",
         {"a": number(127.5), "b": number(0.0078125)}, "pixels", ("Sub", "Mul")),
        ("t = Transpose <perm = [0, 1, 3, 2]> (x) s = Sub (t, a) h = Div (s, b)",
         {"a": number([[[123.7]], [[116.3]], [[103.5]]]),
          "b": number([[[58.4]], [[57.1]], [[57.4]]])}, "pixels", ("Sub", "Div")),
        ("h = Div (x, a)", {"a": number(255.0)}, "pixels", ("Div",)),
        ("s = Sub (x, a) h = Div (s, b)",
         {"a": number([[[0.485]], [[0.456]], [[0.406]]]),
          "b": number([[[0.229]], [[0.224]], [[0.225]]])}, "unit", ("Sub", "Div")),
        ("m = Mul (x, a) h = Sub (m, b)", {"a": number(2.0), "b": number(1.0)}, "unit",
         ("Mul", "Sub")),
        ("h = Add (x, a)", {"a": number(0.1)}, "", ("Add",)),
        ("s = Add (x, w) h = Relu (s)", {"w": (1, 3, 6, 6)}, "", ()),
        ("h = Relu (x)", {}, "", ()),
        ("s = Sub (x, a) r = Relu (x) h = Add (s, r)", {"a": number(127.5)}, "", ()),
    ],
)  # fmt: skip
def test_what_a_graph_does_to_the_pixels_first(
    body, weights, takes, operators, tmp_path
):
    entrance = read(model(Case(body, weights)), tmp_path).entrance
    assert (entrance.takes, entrance.operators) == (takes, operators)


def test_the_line_that_the_first_operators_are():
    nodes = [
        Node("Sub", "a", ("mean", "x"), ("s",), {}),
        Node("Mul", "b", ("s", "scale"), ("t",), {}),
        Node("Add", "c", ("one", "t"), ("u",), {}),
        Node("Relu", "d", ("u",), ("y",), {}),
    ]
    tensors = {"mean": number(10.0), "scale": number(0.5), "one": number(1.0)}
    found = onnx_entrance.entrance(nodes, tensors, "x")
    # (10 - x) / 2 + 1
    assert (found.scale, found.shift) == (-0.5, 6.0)
