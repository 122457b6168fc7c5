"""What an ONNX graph does to the pixels before anything else.

Some exporters write the normalisation into the graph, as (x - 127.5) * 0.0078125: such
a graph takes pixels 0 .. 255, and pixels that are normalised before would be so twice.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qface_jax.models.onnx.graph import Node

# Pixels pass them as they are.
_PASSING = frozenset({"Cast", "Identity", "Transpose"})
_ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub"})
# Networks take values of about -3 .. 3; so normalised pixels span no more than this,
# and 0 .. 255 under a normalisation that is meant for 0 .. 1 span far more.
_SPAN = 12.0
_UNIT = 1.5  # least factor of a normalisation that is meant for 0 .. 1


class Entrance(NamedTuple):
    """y = scale * x + shift of the pixels x, as the mean over the colours.

    Attributes:
        operators: Names of ONNX's, in their order; () where there are none.
        scale: Factor.
        shift: What is added.
    """

    operators: tuple[str, ...]
    scale: float
    shift: float

    @property
    def takes(self) -> str:
        """What pixels it is made for: "pixels" (0 .. 255), "unit" (0 .. 1), or "".

        "": nothing is said, as by a graph that does not begin so.
        """
        if not self.operators or self.scale == 0:
            return ""
        if 255 * abs(self.scale) <= _SPAN:
            return "pixels"
        return "unit" if abs(self.scale) >= _UNIT else ""


def entrance(
    nodes: Sequence[Node], tensors: Mapping[str, np.ndarray], source: str
) -> Entrance:
    """Returns what a graph does to its pixels first.

    Args:
        nodes: In an order in which each finds its inputs made.
        tensors: Name -> array, of what the file holds.
        source: Name of the image's value.
    """
    operators: list[str] = []
    scale, shift = 1.0, 0.0
    while True:
        readers = [node for node in nodes if source in node.inputs]
        if len(readers) != 1:
            break
        (node,) = readers
        if node.operator in _ARITHMETIC:
            numbers = _constant(node, tensors, source)
            if numbers is None:
                break
            scale, shift = _applied(node, numbers, source, scale, shift)
            operators.append(node.operator)
        elif node.operator not in _PASSING:
            break
        source = node.outputs[0]
    return Entrance(tuple(operators), scale, shift)


def _constant(node, tensors, source):
    """The mean of the other operand; None where it is no constant for each colour."""
    others = [name for name in node.inputs if name != source]
    if len(others) != 1 or len(node.inputs) != 2 or others[0] not in tensors:
        return None
    array = tensors[others[0]]
    if array.size not in (1, 3) or not np.all(np.isfinite(array)):
        return None
    return float(array.mean(dtype=np.float64))


def _applied(node, number, source, scale, shift):
    first = node.inputs[0] == source
    if node.operator == "Add":
        return scale, shift + number
    if node.operator == "Mul":
        return scale * number, shift * number
    if node.operator == "Sub":
        return (scale, shift - number) if first else (-scale, number - shift)
    if not first or number == 0:
        return 0.0, shift  # a reciprocal is no normalisation
    return scale / number, shift / number
