"""An imported network's graph: its operators, without the values of its weights.

A run's config holds the graph as one string (`pack`), the checkpoint holds the weights.
So a run folder is whole without the file that the network came from.
"""

import base64
import binascii
import dataclasses
import json
import zlib
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import ConfigError

_FORMAT = 1


class Node(NamedTuple):
    """One operator of the graph.

    Attributes:
        operator: its ONNX name, such as "Conv".
        name: for messages.
        inputs: names of values; "" is an optional input that is left out.
        outputs: names of values; "" is an output that nobody reads.
        attributes: numbers, strings and tuples of them.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Weight(NamedTuple):
    """Where a value of the graph lies in the parameters or the statistics.

    Attributes:
        path: keys of the nested dict, the last one names the kind ("kernel", "bias").
        shape: as stored there.
        axes: for each stored axis, which of the value's axes it is: a convolution's
            kernel is [o, i, h, w] in the graph and stored as [h, w, i, o].
        statistic: a running statistic of a batch norm, not a parameter.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    statistic: bool


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network from one image to one embedding, as ONNX describes it.

    Attributes:
        opset: version of the operators.
        input: name of the image's value.
        input_shape: of one image, without the batch axis: [3, h, w] or [h, w, 3].
        output: name of the embedding's value.
        embedding_dim: d, length of the embedding.
        nodes: in an order in which each finds its inputs made.
        weights: value name -> where it is stored.
        constants: value name -> array; shapes, indices and numbers that do not train.
    """

    opset: int
    input: str
    input_shape: tuple[int, int, int]
    output: str
    embedding_dim: int
    nodes: tuple[Node, ...]
    weights: dict[str, Weight]
    constants: dict[str, np.ndarray]

    @property
    def channels_first(self) -> bool:
        """Whether an image is [3, h, w]."""
        return self.input_shape[0] == 3

    @property
    def input_side(self) -> int:
        """Height and width of an image in pixels."""
        return self.input_shape[1]

    def pack(self) -> str:
        """Returns the graph as printable text, the same for equal graphs."""
        content = {
            "format": _FORMAT,
            "opset": self.opset,
            "input": [self.input, self.input_shape],
            "output": [self.output, self.embedding_dim],
            "nodes": self.nodes,
            "weights": self.weights,
            "constants": {
                name: [array.dtype.str, array.shape, array.ravel().tolist()]
                for name, array in self.constants.items()
            },
        }
        text = json.dumps(content, separators=(",", ":"))
        return base64.b85encode(zlib.compress(text.encode(), 9)).decode()

    @classmethod
    def unpack(cls, packed: str) -> "Graph":
        """Returns the graph that `pack` wrote.

        Raises:
            ConfigError: the text is not a packed graph of this version.
        """
        try:
            text = zlib.decompress(base64.b85decode(packed))
            content = json.loads(text)
            version = content["format"]
        except (ValueError, KeyError, TypeError, zlib.error, binascii.Error) as error:
            raise ConfigError(
                f"model.graph: got {len(packed)} characters that are no packed graph "
                f"({error}); expected what `qface import` wrote into config.json"
            ) from error
        if version != _FORMAT:
            raise ConfigError(
                f"model.graph: got format {version}, expected {_FORMAT}; "
                "import the network again with this version"
            )
        return cls(
            opset=content["opset"],
            input=content["input"][0],
            input_shape=tuple(content["input"][1]),
            output=content["output"][0],
            embedding_dim=content["output"][1],
            nodes=tuple(Node(*_tuples(node)) for node in content["nodes"]),
            weights={
                name: Weight(*_tuples(weight))
                for name, weight in content["weights"].items()
            },
            constants={
                name: np.asarray(values, np.dtype(dtype)).reshape(shape)
                for name, (dtype, shape, values) in content["constants"].items()
            },
        )


def _tuples(value):
    """JSON knows lists only."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
