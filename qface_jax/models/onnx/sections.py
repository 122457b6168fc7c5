"""Where an imported graph is cut: into trunk and neck, and into parts for remat."""

import itertools
import math
from collections.abc import Collection, Sequence

from qface_jax.models.onnx.graph import Graph, Node
from qface_jax.models.onnx.operators import PER_IMAGE

# Give pictures whatever they get; the other operators of PER_IMAGE only of pictures.
_PICTURES = frozenset({"AveragePool", "Conv", "MaxPool"})


def last_map(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> str:
    """Returns the name of the last feature map; "" where the graph has none.

    It is the last value [1, c, h, w], h and w above 1, that the output follows from
    and that is a picture: a convolution or a pooling made it, or what acts on each of
    its pixels or channels by itself. So neither the weights of an attention, [1, heads,
    n, n], nor a picture with its axes moved is taken for one.

    Args:
        graph: of the whole network.
        shapes: of all values, of one image.
    """
    needed = {graph.output}
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed.update(node.inputs)
    pictures, last = {graph.input} if graph.channels_first else set(), ""
    for node in graph.nodes:
        name = node.outputs[0]
        shape = shapes.get(name, ())
        is_picture = node.operator in _PICTURES or (
            node.operator in PER_IMAGE
            and any(made in pictures and shapes[made] == shape for made in node.inputs)
        )
        if is_picture and len(shape) == 4 and min(shape[2:]) > 1:
            pictures.add(name)
            last = name if name in needed else last
    return last


def narrow_parts(
    nodes: Sequence[Node], wanted: Collection[str]
) -> list[tuple[int, int]]:
    """Returns the parts in which activations are recomputed, as first and end node.

    There are about as many as each has nodes, and they are cut where the fewest values
    pass from one to the next: in a residual network between its blocks.

    Args:
        nodes: in an order in which each finds its inputs made.
        wanted: names of the values that are read after the last node.
    """
    passing = _passing(nodes, wanted)
    count = len(nodes)
    length = max(math.isqrt(count), 1)
    sections, first = [], 0
    while count - first > length + length // 2:
        ends = range(first + length // 2 + 1, first + length + length // 2 + 1)
        end = min(ends, key=lambda end: (passing[end], abs(first + length - end)))
        sections.append((first, end))
        first = end
    return [*sections, (first, count)]


def _passing(nodes, wanted):
    """Returns how many values are made before each node and read by it or later."""
    readers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        readers |= dict.fromkeys(node.inputs, number)
    readers |= dict.fromkeys(wanted, len(nodes))
    changes = [0] * (len(nodes) + 2)
    for number, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            changes[number + 1] += 1
            changes[readers.get(name, number) + 1] -= 1
    return list(itertools.accumulate(changes))
