"""Reads an ONNX file: its graph, and the values of its weights.

Float tensors of more than one number are trained parameters, however the exporter
stored them (initializer or Constant node), but for those that normalise the pixels at
the entrance and those that are bounds or fillings of an operator. Single numbers,
integers and shapes belong to the graph.
"""

import dataclasses
import functools
import graphlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from qface_jax.errors import DataError
from qface_jax.models.onnx import backbone as onnx_backbone
from qface_jax.models.onnx.graph import Graph
from qface_jax.models.onnx.operators import NEWEST_OPSET, OLDEST_OPSET, unmapped
from qface_jax.weights import onnx_contents, onnx_entrance, onnx_weights

MAX_CONVOLUTIONS = 1_000  # an IResNet-200 has about 400
MAX_EMBEDDING = 65_536  # numbers of a feature
_FREE_SIDE = 112  # px; of a graph that takes pictures of any size


@dataclasses.dataclass(frozen=True)
class OnnxModel:
    """What an ONNX file holds.

    Attributes:
        graph: the network without its weights.
        params: nested dict of float32 arrays, as the backbone "onnx" takes them.
        stats: the same of the batch norms' running statistics.
        embedding_dim: d, length of a feature.
        input_side: height and width of an image in pixels.
        opset: version of ONNX's operators.
        unused_outputs: names of the graph's other outputs; the first one is taken.
        precision: lowest in which weights are stored: float32, float16 or bfloat16.
        entrance: what the graph itself does to pixels before anything else.
    """

    graph: Graph
    params: dict[str, Any]
    stats: dict[str, Any]
    embedding_dim: int
    input_side: int
    opset: int
    unused_outputs: tuple[str, ...]
    precision: str
    entrance: onnx_entrance.Entrance


def read(path: Path) -> OnnxModel:
    """Returns the network and the weights of an ONNX file, opset 7 to 23.

    Half and double precision become float32. The network takes one input, pictures
    [b, 3, h, w] or [b, h, w, 3] with h = w and b either 1 or free; a side that is left
    free is taken as 112.

    Raises:
        ConfigError: the package onnx is not installed.
        DataError: the file cannot be read, or holds what cannot be mapped: then every
            such operator and attribute is named.
    """
    onnx = onnx_contents.package()
    model = onnx_contents.load(onnx, path)
    opset = _opset(path, model)
    try:
        nodes, tensors = onnx_contents.contents(onnx, model.graph)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    source, shape = _input(path, onnx, model.graph, tensors)
    output, *unused = [value.name for value in model.graph.output]
    _refuse_disorder(path, nodes)
    nodes = _needed(nodes, output)
    convolutions = sum(node.operator == "Conv" for node in nodes)
    if convolutions > MAX_CONVOLUTIONS:
        raise DataError(
            f"{path}: got {convolutions:,} convolutions, expected at most "
            f"{MAX_CONVOLUTIONS:,}: compiling them would take minutes"
        )
    problems = unmapped(nodes) + _computed_statistics(nodes, tensors)
    if problems:
        raise DataError(
            f"{path}: {len(problems)} things cannot be mapped: {'; '.join(problems)}"
        )
    sorted_ = onnx_weights.sort(nodes, tensors, source)
    graph = Graph(
        opset=opset,
        input=source,
        input_shape=shape,
        output=output,
        embedding_dim=0,
        nodes=tuple(sorted_.nodes),
        weights=sorted_.weights,
        constants=sorted_.constants,
    )
    params, stats = _trees(sorted_)
    length = _embedding_dim(path, graph, params, stats)
    return OnnxModel(
        graph=dataclasses.replace(graph, embedding_dim=length),
        params=params,
        stats=stats,
        embedding_dim=length,
        input_side=graph.input_side,
        opset=opset,
        unused_outputs=tuple(unused),
        precision=onnx_contents.precision(onnx, model.graph),
        entrance=onnx_entrance.entrance(nodes, tensors, source),
    )


def _opset(path, model):
    versions = {
        entry.domain or "ai.onnx": entry.version for entry in model.opset_import
    }
    opset = versions.get("ai.onnx", 0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise DataError(
            f"{path}: got opset {opset}, expected {OLDEST_OPSET} to {NEWEST_OPSET}; "
            "export again, or convert by onnx.version_converter"
        )
    return opset


def _refuse_disorder(path, nodes):
    """Refuses nodes that read what only they, or nodes after them, make."""
    makers = {
        name: number for number, node in enumerate(nodes) for name in node.outputs
    }
    graph = {
        number: {makers[name] for name in node.inputs if name and name in makers}
        for number, node in enumerate(nodes)
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        names = [nodes[number].name for number in error.args[1]]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        raise DataError(
            f"{path}: its nodes read each other in a cycle: "
            f"{', '.join(names[:6])}{more}"
        ) from error


def _needed(nodes, output):
    """Returns the nodes that the embedding needs; outputs that nobody reads are ""."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        read = tuple(name if name in wanted else "" for name in node.outputs)
        if any(read):
            kept.append(node._replace(outputs=read))
            wanted.update(node.inputs)
    return kept[::-1]


def _computed_statistics(nodes, tensors):
    return [
        f"statistics of {node.name} that are computed, not stored"
        for node in nodes
        if node.operator == "BatchNormalization"
        and not {*node.inputs[3:5]} <= tensors.keys()
    ]


def _input(path, onnx, graph, tensors):
    """Returns the image's name and the shape of one image."""
    inputs = [value for value in graph.input if value.name not in tensors]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise DataError(f"{path}: got the inputs {names}; expected one, the images")
    kind = inputs[0].type.tensor_type
    sizes = [
        size.dim_value if size.HasField("dim_value") else 0 for size in kind.shape.dim
    ]
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    if len(sizes) != 4 or kind.elem_type not in floats:
        raise DataError(
            f"{path}: input {inputs[0].name} has shape {sizes} and ONNX type "
            f"{kind.elem_type}, expected float pictures [b, 3, h, w] or [b, h, w, 3]"
        )
    if min(sizes) < 0:
        raise DataError(f"{path}: input {inputs[0].name} has shape {sizes}")
    batch, *rest = sizes
    if batch not in (0, 1):
        raise DataError(
            f"{path}: exported for batches of exactly {batch} images; export it with "
            "a free batch axis or for 1 image"
        )
    first = rest[0] == 3
    sides = rest[1:] if first else rest[:2]
    sides = [side or _FREE_SIDE for side in sides]
    if 3 not in (rest[0], rest[2]) or sides[0] != sides[1]:
        raise DataError(
            f"{path}: input {inputs[0].name} has shape {sizes}, expected square "
            "pictures of 3 channels, [b, 3, h, w] or [b, h, w, 3]"
        )
    return inputs[0].name, (3, *sides) if first else (*sides, 3)


def _trees(sorted_):
    leaves = {True: {}, False: {}}
    for weight in sorted_.weights.values():
        leaves[weight.statistic][weight.path] = sorted_.arrays[weight.path]
    return tuple(traverse_util.unflatten_dict(leaves[kind]) for kind in (False, True))


def _embedding_dim(path, graph, params, stats):
    """Traces the network for two images, so that all that is wrong shows here."""
    side = graph.input_side
    network = onnx_backbone.build(graph)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    key = jax.eval_shape(functools.partial(jax.random.key, 0))
    try:
        features, _ = jax.eval_shape(network.apply, params, stats, images)
        train = functools.partial(network.apply, train=True)
        jax.eval_shape(train, params, stats, images, key=key)
    except (ArithmeticError, MemoryError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be mapped: {error}") from error
    if features.ndim != 2 or not 0 < features.shape[1] <= MAX_EMBEDDING:
        raise DataError(
            f"{path}: gives {features.shape[1:]} numbers for an image, expected 1 to "
            f"{MAX_EMBEDDING:,}; is its first output the embedding?"
        )
    return features.shape[1]
