"""What stands around a network in ONNX: the interface of `export.interface` as nodes.

The operators are those that every opset from 13 on has in the same form; older imported
graphs get them in the form of their own opset.
"""

from typing import Any

import numpy as np

from qface_jax.export.interface import (
    BATCH,
    COSINES,
    EMBEDDING,
    IMAGES,
    NCHW,
    NORM,
    TINY,
    UINT8,
    Interface,
    between,
    unit_centres,
)
from qface_jax.export.onnx_network import OnnxNetwork, opset_of
from qface_jax.models import IMAGE_SIDE
from qface_jax.weights.convention import Convention

_IR = 8
_AXES_ARE_INPUT = 18  # opset from which ReduceL2 takes its axes as an input
_PERMUTATIONS = {True: (0, 3, 1, 2), False: (0, 2, 3, 1)}


class _Builder:
    """Nodes and initializers that are added one by one."""

    def __init__(self, onnx: Any, opset: int):
        self._onnx, self._opset = onnx, opset
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def add(
        self, operator: str, *inputs: str, name: str = "", **attributes: Any
    ) -> str:
        """Adds a node; returns the name of its output."""
        output = name or f"qface_{operator}_{len(self.nodes)}"
        make = self._onnx.helper.make_node
        self.nodes.append(make(operator, inputs, [output], output, **attributes))
        return output

    def as_float(self, value: str) -> str:
        """Returns a value as float32."""
        return self.add("Cast", value, to=self._onnx.TensorProto.FLOAT)

    def tensor(self, array: np.ndarray) -> str:
        """Adds an initializer; returns its name."""
        name = f"qface_constant_{len(self.tensors)}"
        self.tensors.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def network(self, model: Any, images: str, copy: int) -> str:
        """Adds a network's nodes; returns the name of its output.

        Args:
            model: onnx.ModelProto.
            images: Name of its input.
            copy: 0, or the number of a further copy of its nodes.
        """
        graph = model.graph
        held = {tensor.name for tensor in graph.initializer}
        if not copy:
            self.tensors.extend(graph.initializer)

        def renamed(name: str) -> str:
            if name == graph.input[0].name:
                return images
            # Values that a caller sees are called as the interface says.
            return name if not name or name in held else f"network{copy}/{name}"

        for node in graph.node:
            twin = type(node)()
            twin.CopyFrom(node)
            twin.name = f"network{copy}/{node.name}"
            twin.input[:] = [renamed(name) for name in node.input]
            twin.output[:] = [renamed(name) for name in node.output]
            self.nodes.append(twin)
        return renamed(graph.output[0].name)

    def flat(self, features: str) -> str:
        """Returns features [b, d] of [b, d] or [b, d, 1, 1]."""
        return self.add("Flatten", features, axis=1)

    def length(self, features: str, **name: str) -> str:
        """Returns the L2 norms [b, 1] of features [b, d]."""
        if self._opset >= _AXES_ARE_INPUT:
            axes = self.tensor(np.array([1], np.int64))
            return self.add("ReduceL2", features, axes, keepdims=1, **name)
        return self.add("ReduceL2", features, axes=[1], keepdims=1, **name)


def wrapped(
    onnx: Any,
    network: OnnxNetwork,
    interface: Interface,
    convention: Convention,
    width: int,
    centres: np.ndarray | None,
) -> Any:
    """Returns a network with its interface, an onnx.ModelProto.

    Args:
        onnx: The package.
        network: The network.
        interface: What the file takes and returns.
        convention: What the model's network takes, of pixels.
        width: d, numbers of a feature.
        centres: Class centres [c, d] where their cosines are an output.
    """
    builder = _Builder(onnx, opset_of(network.model))
    values = _input(builder, network, interface, convention)
    features = plain = builder.flat(builder.network(network.model, values, 0))
    if interface.flip:
        turned = _mirrored(builder, network, values)
        mirrored = builder.flat(builder.network(network.model, turned, 1))
        features = builder.add("Add", plain, mirrored)
    _outputs(builder, interface, features, plain, centres)
    shapes = {EMBEDDING: [width], NORM: []}
    if centres is not None:
        shapes[COSINES] = [len(centres)]
    return _model(onnx, network, builder, interface, shapes)


def _input(
    builder: _Builder,
    network: OnnxNetwork,
    interface: Interface,
    convention: Convention,
) -> str:
    """Adds what makes the network's input of the images."""
    values = IMAGES
    if interface.input == UINT8:
        values = builder.as_float(values)
    taken = interface.convention(convention)
    if taken.color_order != network.takes.color_order:
        turned = builder.tensor(np.array([2, 1, 0], np.int64))
        values = builder.add("Gather", values, turned, axis=interface.channel_axis)
    factors = between(taken, network.takes)
    shape = (3, 1, 1) if interface.layout == NCHW else (3,)
    for operator, numbers, neutral in zip(("Mul", "Add"), factors, (1, 0), strict=True):
        if network.takes.color_order == "BGR":
            numbers = numbers[::-1]
        if np.any(numbers != neutral):
            constant = builder.tensor(np.ascontiguousarray(numbers).reshape(shape))
            values = builder.add(operator, values, constant)
    if interface.layout != network.layout:
        order = _PERMUTATIONS[network.layout == NCHW]
        values = builder.add("Transpose", values, perm=order)
    return values


def _mirrored(builder: _Builder, network: OnnxNetwork, values: str) -> str:
    columns = builder.tensor(np.arange(IMAGE_SIDE, dtype=np.int64)[::-1].copy())
    axis = 3 if network.layout == NCHW else 2
    return builder.add("Gather", values, columns, axis=axis)


def _outputs(
    builder: _Builder,
    interface: Interface,
    features: str,
    plain: str,
    centres: np.ndarray | None,
) -> None:
    """Adds what makes the outputs of raw features."""
    unit = features
    if interface.unit or interface.cosines:
        tiny = builder.tensor(np.array([TINY], np.float32))
        length = builder.add("Max", builder.length(features), tiny)
        name = EMBEDDING if interface.unit else ""
        unit = builder.add("Div", features, length, name=name)
    if not interface.unit:
        builder.add("Identity", features, name=EMBEDDING)
    if interface.norm:
        shape = builder.tensor(np.array([-1], np.int64))
        builder.add("Reshape", builder.length(plain), shape, name=NORM)
    if interface.cosines:
        columns = builder.tensor(np.ascontiguousarray(unit_centres(centres).T))
        builder.add("MatMul", unit, columns, name=COSINES)


def _model(
    onnx: Any,
    network: OnnxNetwork,
    builder: _Builder,
    interface: Interface,
    shapes: dict[str, list[int]],
) -> Any:
    batch = BATCH if interface.batch is None else interface.batch
    kinds = onnx.TensorProto
    kind = kinds.UINT8 if interface.input == UINT8 else kinds.FLOAT
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        builder.nodes,
        "qface",
        [value(IMAGES, kind, [batch, *interface.image_shape])],
        [
            value(name, kinds.FLOAT, [batch, *shapes[name]])
            for name in interface.outputs
        ],
        builder.tensors,
    )
    opsets = network.model.opset_import
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    # The oldest version of the file's form, so that older runtimes read it.
    model.ir_version = max(_IR, onnx.helper.find_min_ir_version_for(opsets))
    return model
