"""Makes small ONNX networks from text and random weights.

`x` is the pictures [N, 3, 6, 6]; `h` is what the embedding is flattened from.
"""

from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from qface_jax.weights import onnx_file

SIDE = 6


class Case(NamedTuple):
    """A network.

    Attributes:
        body: nodes in ONNX's text form, from x to h.
        weights: name -> shape of a random float tensor, or an array.
        opset: version of the operators.
    """

    body: str
    weights: dict = {}  # noqa: RUF012 (never changed)
    opset: int = 21


def model(case, *, batch="N", side=SIDE):
    """Returns the ONNX model of a case, its weights drawn from a fixed seed."""
    graph = parser.parse_graph(
        f"network (float[{batch},3,{side},{side}] x) => (float[{batch},M] y) "
        f"{{ {case.body} y = Flatten <axis = 1> (h) }}"
    )
    draw = np.random.default_rng(0)
    for name, weight in case.weights.items():
        array = weight
        if isinstance(weight, tuple):
            array = draw.normal(0.0, 0.5, weight).astype(np.float32)
        if name.startswith("var"):
            array = np.abs(array) + 0.5
        graph.initializer.append(numpy_helper.from_array(array, name))
    opset = onnx.helper.make_opsetid("", case.opset)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)


def ints(*numbers):
    return np.asarray(numbers, np.int64)


def number(value):
    return np.asarray(value, np.float32)


def read(proto, folder):
    """What the importer makes of a model."""
    path = folder / "network.onnx"
    onnx.save(proto, path)
    return onnx_file.read(path)


def reference(proto, images):
    """The features that onnxruntime gives."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return session.run(None, {"x": images.transpose(0, 3, 1, 2)})[0]
