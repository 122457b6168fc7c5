"""An ONNX file's nodes and tensors, read within bounds.

A file from outside may ask for anything: more nodes than a machine can hold, functions
that call themselves, tensors that are not what they are said to be. What is read is
bounded: the nodes are counted in the file before it is parsed.
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.models.onnx.graph import Node

# Of the file, its functions written out wherever they are called.
MAX_NODES = 5_000
# Numbers of the fields of ONNX's messages.
_GRAPH, _FUNCTIONS, _NODE, _NODE_OF_FUNCTION = 7, 25, 1, 7
_BYTES = 2  # wire type of what has a length
_FIXED = {1: 8, 5: 4}  # wire type -> bytes


def package() -> Any:
    """Returns the module `onnx`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import onnx
        import onnx.inliner
    except ImportError as error:
        raise ConfigError(
            "reading .onnx files needs the package onnx, which is not installed; "
            "pip install 'qface-jax[import]'"
        ) from error
    return onnx


def load(onnx: Any, path: Path) -> Any:
    """Returns the ModelProto of a file, its functions written out.

    Raises:
        DataError: it cannot be read, has more than MAX_NODES nodes, or functions that
            call themselves.
    """
    try:
        _refuse_many(_count_in_file(path))
        model = onnx.load(str(path))
        if model.functions:
            _refuse_many(_count_written_out(model))
            model = onnx.inliner.inline_local_functions(model)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # protobuf has its own kinds
        raise DataError(f"{path}: cannot be read as ONNX: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise DataError(f"{path}: got an empty graph, expected a network; is it ONNX?")
    return model


def contents(onnx: Any, graph: Any) -> tuple[list[Node], dict[str, np.ndarray]]:
    """Returns the nodes of a GraphProto, and all tensors that the file holds by name.

    Floats of every precision become float32.

    Raises:
        DataError: a tensor or an attribute cannot be read; it is named.
    """
    _refuse_twice(graph)
    tensors = {tensor.name: _array(onnx, tensor) for tensor in graph.initializer}
    nodes = []
    for number, proto in enumerate(graph.node):
        known = [tensors[name] for name in proto.input if name in tensors]
        if proto.op_type == "Constant":
            tensors[_output(proto, number)] = _constant(onnx, proto, number)
        elif proto.op_type == "Identity" and known:
            # Exporters store equal tensors once; each name is a weight of its own.
            tensors[_output(proto, number)] = known[0]
        else:
            nodes.append(_node(onnx, proto, number))
    return nodes, tensors


def _refuse_twice(graph: Any) -> None:
    names = Counter(tensor.name for tensor in graph.initializer)
    names.update(name for node in graph.node for name in node.output if name)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} values are made more than once, as {twice[0]!r}; the file "
            "is damaged: export the network again"
        )


def precision(onnx: Any, graph: Any) -> str:
    """Returns the lowest precision in which weights are stored, as numpy calls it.

    "float32" where they are stored in it or above.
    """
    kinds = {tensor.data_type for tensor in graph.initializer}
    for proto in graph.node:
        if proto.op_type == "Constant":
            kinds.update(
                attribute.t.data_type
                for attribute in proto.attribute
                if attribute.name == "value"
            )
    for kind in ("bfloat16", "float16"):
        if getattr(onnx.TensorProto, kind.upper()) in kinds:
            return kind
    return "float32"


def precision_of(path: Path) -> str:
    """Returns the `precision` of a file; "float32" where onnx is not installed.

    Raises:
        DataError: as `load`.
    """
    try:
        onnx = package()
    except ConfigError:
        return "float32"
    return precision(onnx, load(onnx, path).graph)


def _refuse_many(count: int) -> None:
    if count > MAX_NODES:
        raise DataError(
            f"got {count:,} nodes or more, expected at most {MAX_NODES:,}; simplify "
            "the graph (onnx-simplifier) and import that"
        )


def _count_in_file(path: Path) -> int:
    """Counts the nodes of the graph and of its functions, without parsing them.

    It stops beyond MAX_NODES. A file that is no protobuf has 0.
    """
    count = 0
    with path.open("rb") as file:
        if not path.stat().st_size:
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            for field, begin, end in _fields(view, 0, len(view)):
                nodes = {_GRAPH: _NODE, _FUNCTIONS: _NODE_OF_FUNCTION}.get(field)
                if nodes is None:
                    continue
                for inside, *_ in _fields(view, begin, end):
                    count += inside == nodes
                    if count > MAX_NODES:
                        return count
    return count


def _fields(view: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (field, begin, end) of what a message holds, as far as it makes sense."""
    while at < end:
        tag, at = _varint(view, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            size, at = _varint(view, at, end)
        elif wire == 0:
            _, after = _varint(view, at, end)
            size = after - at
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            return
        if at + size > end:
            return
        yield field, at, at + size
        at += size


def _varint(view: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Returns a number and where it ends; seven bits a byte, the lowest first."""
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    return value, end


def _count_written_out(model: Any) -> int:
    """Returns how many nodes the graph has once its functions are written out.

    Raises:
        DataError: a function calls itself, directly or through others.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    counts: dict[tuple[str, str], int] = {}
    open_: list[tuple[str, str]] = []

    def of_nodes(nodes):
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += of_function(key) if key in functions else 1
            for attribute in node.attribute:
                total += sum(
                    of_nodes(graph.node) for graph in (attribute.g, *attribute.graphs)
                )
        return total

    def of_function(key):
        if key in open_:
            names = " -> ".join(name for _, name in [*open_[open_.index(key) :], key])
            raise DataError(f"its functions call themselves: {names}")
        if len(open_) > len(functions) or len(open_) > 100:
            raise DataError("its functions call each other more than 100 deep")
        if key not in counts:
            open_.append(key)
            counts[key] = of_nodes(functions[key].node)
            open_.pop()
        return counts[key]

    return of_nodes(model.graph.node)


def _array(onnx, tensor):
    """Floats of every precision become float32."""
    try:
        if min(tensor.dims, default=0) < 0:
            raise ValueError("a negative size")
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
            return np.asarray(array, np.float32)
        if array.dtype.kind not in "biu":
            raise TypeError(f"values of type {array.dtype.name}, expected numbers")
    # What the package raises for a damaged tensor is not documented.
    except Exception as error:
        raise DataError(
            f"the tensor {tensor.name!r}, {list(tensor.dims)} of ONNX type "
            f"{tensor.data_type}, cannot be read ({error}); export the network again"
        ) from error
    return np.asarray(array)


def _called(proto, number):
    return proto.name or f"{proto.op_type}_{number}"


def _output(proto, number):
    if len(proto.output) != 1:
        raise DataError(
            f"{proto.op_type} {_called(proto, number)} has {len(proto.output)} "
            "outputs, expected one; the file is damaged"
        )
    return proto.output[0]


def _constant(onnx, proto, number):
    if len(proto.attribute) != 1:
        raise DataError(
            f"Constant {_called(proto, number)} has {len(proto.attribute)} attributes, "
            "expected its value; the file is damaged"
        )
    (attribute,) = proto.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return _array(onnx, value)
    kind = np.float32 if attribute.name.startswith("value_float") else np.int64
    try:
        return np.asarray(value, kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"Constant {_called(proto, number)}: {attribute.name} holds no numbers"
        ) from error


def _node(onnx, proto, number):
    attributes = {}
    for attribute in proto.attribute:
        try:
            value = onnx.helper.get_attribute_value(attribute)
            if proto.op_type == "ConstantOfShape" and attribute.name == "value":
                array = _array(onnx, value)
                attributes |= {"value": array.item(), "dtype": array.dtype.name}
            else:
                attributes[attribute.name] = _plain(value)
        except (ValueError, DataError) as error:  # UnicodeDecodeError is one
            raise DataError(
                f"the attribute {attribute.name!r} of {proto.op_type} "
                f"{_called(proto, number)} cannot be read ({error})"
            ) from error
    domain = proto.domain if proto.domain not in ("", "ai.onnx") else ""
    return Node(
        operator=f"{domain}.{proto.op_type}" if domain else proto.op_type,
        name=_called(proto, number),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
    )


def _plain(value):
    """An attribute's value as text can hold it; others are named by their kind."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float | str):
        return value
    try:
        return tuple(_plain(item) for item in value)
    except TypeError:
        return type(value).__name__
