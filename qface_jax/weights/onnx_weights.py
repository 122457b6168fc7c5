"""Which tensors of an ONNX graph are weights, of what kind and how they are stored."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from qface_jax.models.onnx.graph import Node, Weight
from qface_jax.weights import onnx_names

_NORMS = (
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "BatchNormalization",
)
# Operator and input -> kind of weight, also if it is a single number.
_SLOTS = {
    ("Conv", 1): "kernel",
    ("Conv", 2): "bias",
    ("Gemm", 0): "kernel",
    ("Gemm", 1): "kernel",
    ("Gemm", 2): "bias",
    ("MatMul", 0): "kernel",
    ("MatMul", 1): "kernel",
    ("PRelu", 1): "negative_slope",
    **{
        (norm, place): kind
        for norm in _NORMS
        for place, kind in ((1, "scale"), (2, "bias"))
    },
}
_STATISTICS = {3: "mean", 4: "var"}  # inputs of a batch norm
# Several numbers here are a weight of this kind.
_KINDS = {
    "Add": "bias",
    "Div": "scale",
    "Einsum": "kernel",
    "Mul": "scale",
    "Sub": "bias",
    "Sum": "bias",
}
# Exporters store equal tensors once, so layers of which these happened to be equal (all
# 0, all 1) share them in the file, and part ways in training. Shared kernels are meant.
_PARTED = frozenset({"bias", "mean", "negative_slope", "scale", "var"})
# Operator -> first input that is an argument, not data.
_ARGUMENTS = {
    **dict.fromkeys(("Clip", "Pad", "Dropout", "Pow", "CastLike"), 1),
    **dict.fromkeys(("Range", "Equal", "Greater", "GreaterOrEqual", "Mod"), 0),
    **dict.fromkeys(("Less", "LessOrEqual", "Max", "Min"), 0),
}
# What pixels pass through while they are still only normalised or reordered.
_ENTRANCE = frozenset(
    {"Add", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Slice", "Split",
     "Sub", "Transpose"}
)  # fmt: skip


@dataclasses.dataclass
class Contents:
    """The tensors of a graph, sorted.

    Attributes:
        nodes: of the graph; layers that shared all but a kernel have their own now.
        weights: value name -> where it is stored.
        arrays: path -> float32 values as they are stored.
        constants: value name -> array of what does not train.
    """

    nodes: list[Node]
    weights: dict[str, Weight]
    arrays: dict[tuple[str, ...], np.ndarray]
    constants: dict[str, np.ndarray]


def sort(
    nodes: Sequence[Node], tensors: dict[str, np.ndarray], source: str
) -> Contents:
    """Returns a graph's tensors as weights and constants.

    Args:
        nodes: in their order.
        tensors: name -> array; floats are float32.
        source: name of the image's value.
    """
    contents = Contents([], {}, {}, {})
    taken: set[tuple[str, ...]] = set()
    pixels = {source}
    for node in nodes:
        given = [name for name in node.inputs if name and name not in tensors]
        entrance = node.operator in _ENTRANCE and pixels.issuperset(given)
        if entrance and given:
            pixels.update(node.outputs)
        inputs = list(node.inputs)
        for place, name in enumerate(inputs):
            if name not in tensors:
                continue
            array, called = tensors[name], name
            if name in contents.weights and _kind(node, place) in _PARTED:
                # By the node: the tensor's own name is that of another layer.
                inputs[place] = name = f"{name} at {place} of {node.outputs[0]}"
                called = ""
            if name in contents.weights or name in contents.constants:
                continue
            if entrance or not _trains(node, place, array):
                contents.constants[name] = array
                continue
            kind = _kind(node, place)
            path = onnx_names.of_weight(called, node.operator, node.name, kind)
            _add(contents, node, place, name, array, onnx_names.unique(path, taken))
        contents.nodes.append(node._replace(inputs=tuple(inputs)))
    return contents


def _is_statistic(node, place):
    return node.operator == "BatchNormalization" and place in _STATISTICS


def _trains(node, place, array):
    if array.dtype != np.float32:
        return False
    if (node.operator, place) in _SLOTS or _is_statistic(node, place):
        return True
    argument = place >= _ARGUMENTS.get(node.operator, len(node.inputs))
    return array.size > 1 and not argument


def _kind(node, place):
    if _is_statistic(node, place):
        return _STATISTICS[place]
    return _SLOTS.get((node.operator, place), _KINDS.get(node.operator))


def _add(contents, node, place, name, array, path):
    axes = _axes(node, array)
    stored = np.ascontiguousarray(array.transpose(axes))
    statistic = _is_statistic(node, place)
    contents.weights[name] = Weight(path, stored.shape, axes, statistic)
    contents.arrays[path] = stored


def _axes(node, array):
    """The order of axes in which the operator computes, so that nothing moves."""
    natural = tuple(range(array.ndim))
    if node.operator == "Conv" and array.ndim > 2:
        return (*natural[2:], 1, 0)
    if node.operator == "Gemm" and array.ndim == 2 and node.attributes.get("transB", 0):
        return (1, 0)
    return natural
