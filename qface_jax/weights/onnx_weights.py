"""Which tensors of an ONNX graph are weights, and where and how they are stored.

Names of weights are readable and stable. PyTorch's exporter keeps a tensor's name where
it is untouched ("layer1.0.bn1.weight") and invents one where it folded a batch norm
into it ("onnx::Conv_529"): then the node's name says where it belongs
("/layer1/layer1.0/conv1/Conv").
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from qface_jax.models.onnx.graph import Node, Weight

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
# Last parts of a tensor's name that say what it is, not where.
_ENDING = re.compile(
    r"(?:^|[._/:])(?:weight|bias|gamma|beta|kernel|alpha|slope|scale|w|b|"
    r"(?:running|moving)_(?:mean|var)|mean|variance|var)(?:_?\d+)?$",
    re.IGNORECASE,
)
_INVENTED = re.compile(
    r"^(?:[\W\d_]*|.*::.*|(?:val|const|constant|initializer|tensor|t|v|p|x|param)[._]*\d+"
    r"|const_fold.*|.*constant.*output.*)$",
    re.IGNORECASE,
)


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
        computed = [name for name in node.inputs if name and name not in tensors]
        entrance = node.operator in _ENTRANCE and pixels.issuperset(computed)
        if entrance and computed:
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
            path = weight_path(called, node.operator, node.name, kind)
            _add(contents, node, place, name, array, unique_path(path, taken))
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


def weight_path(tensor: str, operator: str, node: str, kind: str | None) -> list[str]:
    """Returns the keys under which a weight is stored.

    Args:
        tensor: its name in the file.
        operator: ONNX name of the node that reads it first.
        node: that node's name, never empty.
        kind: "kernel", "bias" and so on; None: the last part of its own name.
    """
    tensor = re.sub(r":\d+$", "", tensor)  # of TensorFlow
    if _INVENTED.match(tensor):
        parts = _of_node(node, operator)
        return [*parts, kind or "value"]
    if kind is None:
        return _parts(tensor)
    return [*(_parts(_place(tensor)) or _of_node(node, operator)), kind]


def _place(tensor):
    """Drops what says the kind: all of "conv1.weight_bias" behind "conv1"."""
    shorter = _ENDING.sub("", tensor)
    return tensor if shorter == tensor else _place(shorter)


def _of_node(node, operator):
    """Drops the operator's own name, and scopes that the next one repeats."""
    scopes = [scope for scope in node.split("/") if scope]
    if len(scopes) > 1 and re.fullmatch(rf"{operator}(_\d+)?", scopes[-1]):
        scopes.pop()
    kept = [
        scope
        for scope, following in zip(scopes, [*scopes[1:], ""], strict=True)
        if not following.startswith(f"{scope}.") and scope != following
    ]
    return _parts("/".join(kept)) or [operator]


def _parts(name):
    """ "layer1.0.conv1" is layer1_0, conv1, as in our own backbones."""
    name = re.sub(r"\.(?=\d+(\.|/|$))", "_", name)
    parts = (re.sub(r"\W+", "_", part).strip("_") for part in re.split(r"[./]", name))
    return [part for part in parts if part]


def unique_path(path: list[str], taken: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the path, its module numbered where another weight has it already.

    Args:
        path: keys, the last of which says the kind.
        taken: all paths so far and the beginnings of them; the new ones are added.
    """
    *modules, kind = path
    number = 1
    while True:
        more = "" if number == 1 else f"_{number}"
        candidate = (
            (*modules[:-1], f"{modules[-1]}{more}", kind)
            if modules
            else (f"{kind}{more}",)
        )
        beginnings = {candidate[:count] for count in range(1, len(candidate))}
        leaves = {path for path in taken if path[-1:] == ("",)}
        if candidate not in taken and not any(
            (*start, "") in leaves for start in beginnings
        ):
            break
        number += 1
    # A leaf is marked by an empty key behind it, so that nothing is put below it.
    taken |= beginnings | {candidate, (*candidate, "")}
    return candidate
