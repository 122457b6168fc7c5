"""A network as an ONNX model from images to raw features.

A backbone of ours goes through jax2onnx. An imported graph is written back: its own
nodes with the weights that it has now.
"""

import contextlib
import functools
import io
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.errors import ConfigError
from qface_jax.export.interface import BATCH, NCHW, NHWC, OURS
from qface_jax.export.subject import Subject
from qface_jax.models import IMAGE_SIDE
from qface_jax.models.onnx.graph import Graph, Node
from qface_jax.weights.convention import Convention
from qface_jax.weights.importing import ONNX

# Where jax2onnx puts functions of its own.
_REPLACED_IN = (
    jax,
    jax.image,
    jax.lax,
    jax.nn,
    jax.random,
    jnp,
    jnp.linalg,
)
_DOMAINS = ("", "ai.onnx")  # two names of ONNX's own operators
OPSETS = (18, 20)  # of our own backbones, the first that has all operators


class OnnxNetwork(NamedTuple):
    """A network as ONNX, before what stands around it.

    Attributes:
        model: onnx.ModelProto with one input and one output, of raw features [b, d].
        takes: What its input is.
        layout: NHWC or NCHW, of its input.
    """

    model: Any
    takes: Convention
    layout: str


def onnx_package() -> Any:
    """Returns onnx; raises ConfigError where it or onnxruntime is missing."""
    try:
        import onnx
        import onnx.version_converter
        import onnxruntime  # noqa: F401 (it runs what is written)
    except ImportError as error:
        raise ConfigError(
            f"writing .onnx files needs the package {error.name}, which is not "
            "installed; pip install 'qface-jax[export]'"
        ) from error
    return onnx


def check(subject: Subject) -> None:
    """Raises ConfigError where a package is missing."""
    onnx_package()
    if subject.config.model.backbone != ONNX:
        _jax2onnx()


def network_of(subject: Subject) -> OnnxNetwork:
    """Returns a model's network.

    Raises:
        ConfigError: jax2onnx does not carry the backbone.
    """
    if subject.config.model.backbone == ONNX:
        return _written_back(subject)
    return _converted(subject)


def opset_of(model: Any) -> int:
    """Returns the version of the operators of an onnx.ModelProto."""
    return next(one.version for one in model.opset_import if one.domain in _DOMAINS)


def raised(onnx: Any, model: Any, opset: int) -> Any:
    """Returns an onnx.ModelProto in a newer version of the operators.

    Raises:
        ConfigError: Onnx cannot convert it.
    """
    import onnx.version_converter

    try:
        return onnx.version_converter.convert_version(model, opset)
    except RuntimeError as error:
        raise ConfigError(
            f"its graph is of opset {opset_of(model)}, {opset} is needed here, and "
            f"onnx cannot convert it ({str(error).splitlines()[0][:200]})"
        ) from error


def _jax2onnx() -> Any:
    try:
        with _apart():
            import jax2onnx
    except ImportError as error:
        raise ConfigError(
            f"writing a backbone of ours as .onnx needs the package {error.name}, "
            "which is not installed; pip install 'qface-jax[export]'"
        ) from error
    return jax2onnx


def _converted(subject: Subject) -> OnnxNetwork:
    backbone, side = subject.config.model.backbone, IMAGE_SIDE
    convert = _jax2onnx().to_onnx
    for opset in OPSETS:
        try:
            with _apart():
                model = convert(
                    subject.raw,
                    inputs=[(BATCH, side, side, 3)],
                    model_name="qface",
                    opset=opset,
                )
        except NotImplementedError as error:
            raise ConfigError(
                f"backbone {backbone}: jax2onnx does not carry it "
                f"({str(error).splitlines()[0]}); export it as stablehlo"
            ) from error
        missing = _missing(model)
        if not missing:
            return OnnxNetwork(model, OURS, NHWC)
    raise ConfigError(
        f"backbone {backbone}: jax2onnx writes it with {', '.join(missing)}, which "
        f"opset {opset} of ONNX lacks; export it as stablehlo"
    )


def _missing(model: Any) -> list[str]:
    """Returns the operators of a model that its opset lacks.

    jax2onnx writes them all the same, such as Gelu before opset 20.
    """
    onnx = onnx_package()
    own = {(one.domain, one.name) for one in model.functions}
    nodes = list(model.graph.node)
    for function in model.functions:
        nodes.extend(function.node)
    opset = opset_of(model)
    used = {(node.domain, node.op_type) for node in nodes} - own
    return sorted(
        operator
        for domain, operator in used
        if domain in _DOMAINS and not onnx.defs.has(operator, opset)
    )


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Keeps to itself what jax2onnx prints and what it replaces in JAX.

    It leaves some functions of JAX replaced by its own, such as `jax.numpy.cumsum`,
    which take fewer arguments.
    """
    before = [(module, dict(vars(module))) for module in _REPLACED_IN]
    try:
        with contextlib.redirect_stdout(io.StringIO()), _quiet("onnx_ir", "jax2onnx"):
            yield
    finally:
        for module, content in before:
            for name, value in content.items():
                if vars(module).get(name) is not value:
                    setattr(module, name, value)


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _written_back(subject: Subject) -> OnnxNetwork:
    onnx = onnx_package()
    graph = Graph.unpack(subject.config.model.graph)
    model = model_of(onnx, graph, subject.params, subject.stats)
    layout = NCHW if graph.channels_first else NHWC
    return OnnxNetwork(model, subject.network, layout)


def model_of(onnx: Any, graph: Graph, params: Any, stats: Any) -> Any:
    """Returns an imported graph with its weights as an onnx.ModelProto.

    Where the graph holds the batch of 1 that it was exported for, in the shape that a
    value takes, it takes any number of images now.

    Args:
        onnx: The package.
        graph: The graph.
        params: Nested dict of its parameters.
        stats: The same, of its running statistics.
    """
    tensors = dict(graph.constants)
    for name, weight in graph.weights.items():
        leaves = stats if weight.statistic else params
        stored = np.asarray(functools.reduce(dict.__getitem__, weight.path, leaves))
        tensors[name] = stored.transpose(np.argsort(weight.axes)).astype(np.float32)
    nodes = [_with_free_batch(node, tensors) for node in graph.nodes]
    protos = [_proto(onnx, node) for node in nodes]
    floats = onnx.TensorProto.FLOAT
    value = onnx.helper.make_tensor_value_info
    content = onnx.helper.make_graph(
        protos,
        "qface",
        [value(graph.input, floats, [BATCH, *graph.input_shape])],
        [value(graph.output, floats, None)],
        [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in tensors.items()
        ],
    )
    opset = onnx.helper.make_opsetid("", graph.opset)
    return onnx.helper.make_model(content, opset_imports=[opset])


def _with_free_batch(node: Node, tensors: dict[str, np.ndarray]) -> Node:
    """Returns the node, the leading 1 of a shape that it takes copied from the batch.

    `tensors` gets the changed shape.
    """
    if node.operator != "Reshape" or node.inputs[0] in tensors:
        return node
    shape = tensors.get(node.inputs[1])
    if shape is None or shape.size < 2 or shape[0] != 1:
        return node
    if node.attributes.get("allowzero"):  # then a 0 copies nothing
        return node
    name = f"{node.inputs[1]} of any batch"
    tensors[name] = np.concatenate([np.zeros(1, shape.dtype), shape[1:]])
    return node._replace(inputs=(node.inputs[0], name))


def _proto(onnx: Any, node: Node) -> Any:
    domain, _, operator = node.operator.rpartition(".")
    attributes = dict(node.attributes)
    if operator == "ConstantOfShape" and "value" in attributes:
        filling = np.full(1, attributes["value"], attributes.pop("dtype"))
        attributes["value"] = onnx.numpy_helper.from_array(filling)
    return onnx.helper.make_node(
        operator, node.inputs, node.outputs, node.name, domain=domain, **attributes
    )
