"""Where an imported graph is cut so that few values pass from part to part."""

import itertools
import math

from qface_jax.models.onnx.graph import Graph


def narrow_parts(graph: Graph) -> list[tuple[int, int]]:
    """Returns the parts in which activations are recomputed, as first and end node.

    There are about as many as each has nodes, and they are cut where the fewest values
    pass from one to the next: in a residual network between its blocks.
    """
    passing = _passing(graph)
    count = len(graph.nodes)
    length = max(math.isqrt(count), 1)
    parts, first = [], 0
    while count - first > length + length // 2:
        ends = range(first + length // 2 + 1, first + length + length // 2 + 1)
        end = min(ends, key=lambda end: (passing[end], abs(first + length - end)))
        parts.append((first, end))
        first = end
    return [*parts, (first, count)]


def _passing(graph):
    """Returns how many values are made before each node and read by it or later."""
    readers: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        readers |= dict.fromkeys(node.inputs, number)
    readers[graph.output] = len(graph.nodes)
    changes = [0] * (len(graph.nodes) + 2)
    for number, node in enumerate(graph.nodes):
        for name in filter(None, node.outputs):
            changes[number + 1] += 1
            changes[readers.get(name, number) + 1] -= 1
    return list(itertools.accumulate(changes))
