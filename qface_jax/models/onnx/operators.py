"""Which ONNX operators a backbone may be made of."""

from collections.abc import Iterable

from qface_jax.models.onnx import (
    convolution as onnx_convolution,
)
from qface_jax.models.onnx import (
    elementwise,
    normalisation,
)
from qface_jax.models.onnx import (
    shaping as onnx_shaping,
)
from qface_jax.models.onnx.graph import Node

OLDEST_OPSET, NEWEST_OPSET = 7, 23

# Name -> (function(context, node, *inputs) -> value or values, attributes it knows).
OPERATORS = (
    onnx_convolution.OPERATORS
    | elementwise.OPERATORS
    | normalisation.OPERATORS
    | onnx_shaping.OPERATORS
)

# Of a batch they give the batch of what they give of each image, if what else they read
# has no axis for images.
ELEMENTWISE = frozenset({"Add", "Div", "Mul", "PRelu", "Sub"})
PER_IMAGE = ELEMENTWISE | {
    "AveragePool", "BatchNormalization", "Clip", "Conv", "Elu", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization",
    "LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Tanh",
}  # fmt: skip


def unmapped(nodes: Iterable[Node]) -> list[str]:
    """Returns what cannot be computed: each operator or attribute, with its nodes."""
    users: dict[str, list[str]] = {}
    for node in nodes:
        if node.operator not in OPERATORS:
            users.setdefault(f"operator {node.operator}", []).append(node.name)
            continue
        for attribute in sorted(node.attributes.keys() - OPERATORS[node.operator][1]):
            text = f"attribute {attribute} of {node.operator}"
            users.setdefault(text, []).append(node.name)
    return [
        f"{text} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for text, names in users.items()
    ]
