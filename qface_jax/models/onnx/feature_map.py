"""Which value of an imported graph is its last feature map, and how one adds to it."""

import dataclasses

from qface_jax.errors import ConfigError
from qface_jax.models.onnx.graph import Graph, Node
from qface_jax.models.onnx.operators import PER_IMAGE

ADDED = "qface_jax/added"  # the value that is added to the map
_BEFORE = "qface_jax/before"  # the map without it
# Give pictures whatever they get; the other operators of PER_IMAGE only of pictures.
_PICTURES = frozenset({"AveragePool", "Conv", "MaxPool"})


def marked(graph: Graph, shapes: dict[str, tuple[int, ...]], *, adds: bool) -> Graph:
    """Returns the graph with its last feature map marked.

    It is the last value [1, c, h, w], h and w above 1, that the output follows from
    and that is a picture: a convolution or a pooling made it, or what acts on each of
    its pixels or channels by itself. So neither the weights of an attention, [1, heads,
    n, n], nor a picture with its axes moved is taken for one.

    Args:
        graph: without a mark.
        shapes: of all values, of one image.
        adds: whether the value `ADDED` is given and added to the map.

    Raises:
        ConfigError: the graph has no such value.
    """
    name = _last_picture(graph, shapes)
    if not adds:
        return dataclasses.replace(graph, marked=name)
    nodes = []
    for node in graph.nodes:
        if name not in node.outputs:
            nodes.append(node)
            continue
        outputs = tuple(_BEFORE if out == name else out for out in node.outputs)
        addition = Node(
            "Add", "added to the feature map", (_BEFORE, ADDED), (name,), {}
        )
        nodes += [node._replace(outputs=outputs), addition]
    return dataclasses.replace(graph, nodes=tuple(nodes), marked=name)


def _last_picture(graph, shapes):
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed.update(node.inputs)
    pictures, last = {graph.input} if graph.channels_first else set(), ""
    for node in graph.nodes:
        name = node.outputs[0]
        shape = shapes.get(name, ())
        made = node.operator in _PICTURES or (
            node.operator in PER_IMAGE
            and any(own in pictures and shapes[own] == shape for own in node.inputs)
        )
        if made and len(shape) == 4 and min(shape[2:]) > 1:
            pictures.add(name)
            last = name if name in needed else last
    if not last:
        raise ConfigError(
            "model.graph: the imported network has no feature map: no convolution or "
            "pooling in it makes pictures of more than one pixel; expected one, such "
            "as every convolutional network has, for attention and activation maps"
        )
    return last
