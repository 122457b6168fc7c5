"""An imported ONNX network as a backbone whose weights are trained.

The graph is a function of one image and is vmapped over a batch: so a graph that was
exported for a batch of one, with that 1 in its shapes, takes any batch. Images meet in
batch norms only, which find each other by the name of the vmapped axis. The nodes up to
the first one that could tell one image from a batch take the batch as it is: the same
numbers, but a convolutional network's gradient is a third faster on a CPU.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float

from qface_jax.errors import ConfigError
from qface_jax.models.blocks import KAIMING_FAN_OUT
from qface_jax.models.network import BackboneEntry, Network, TrunkOutput
from qface_jax.models.onnx.graph import Graph, Node, Weight
from qface_jax.models.onnx.operators import ELEMENTWISE, OPERATORS, PER_IMAGE
from qface_jax.models.onnx.sections import last_map, narrow_parts
from qface_jax.models.onnx.values import (
    IMAGE_AXIS,
    Context,
    Value,
    channels_last,
    in_order,
)
from qface_jax.options import Option

_POSITIONS = nn.initializers.normal(0.02)  # of what is no kernel, bias, scale or slope
_INITIAL = {
    "bias": nn.initializers.zeros,
    "mean": nn.initializers.zeros,
    "negative_slope": nn.initializers.constant(0.25),
    "scale": nn.initializers.ones,
    "var": nn.initializers.ones,
}


class _Settings(NamedTuple):
    """How a graph is computed, as `build` takes it."""

    dtype: Any
    remat: bool
    frozen: bool


class _Cut(NamedTuple):
    """Where the neck begins.

    Attributes:
        map: name of the last feature map; "": there is none.
        first: number of the neck's first node.
        carried: names of the values that the neck reads of the trunk's, sorted.
        static: name -> value, of all that follow from shapes and constants.
    """

    map: str
    first: int
    carried: tuple[str, ...]
    static: dict[str, Value]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["array"],
    meta_fields=["axes", "single", "dtype"],
)
@dataclasses.dataclass(frozen=True)
class _Carried:
    """A value of all images of a batch, on its way from section to section.

    Attributes:
        array: [b, ...]; None while it is the map, which travels by itself.
        axes: for each stored axis of a `Value`, which axis of the value it is.
        single: whether the images have been computed one by one, so that the array is
            [b, 1, ...], a value of one image for each; else the value holds all images.
        dtype: of the array.
    """

    array: jax.Array | None
    axes: tuple[int, ...]
    single: bool
    dtype: Any

    def stored(self, axes: tuple[int, ...]) -> jax.Array:
        """Returns the array [b, ...] with the value's axes in the given order."""
        if not self.single:
            return Value(self.array, self.axes).stored(axes)
        return jax.vmap(lambda array: Value(array, self.axes).stored(axes))(self.array)

    def taken_back(self, feature_map: Float[Array, "b h w c"]) -> "_Carried":
        """Returns this value, of which `array` is None, with the map's numbers."""
        feature_map = feature_map.astype(self.dtype)
        if self.single:
            feature_map = feature_map[:, None]
        value = dataclasses.replace(self, array=feature_map, axes=channels_last(4))
        return dataclasses.replace(self, array=value.stored(self.axes))


def build(
    graph: str | Graph,
    *,
    dtype: Any = jnp.float32,
    remat: bool = False,
    freeze_batch_norm: bool = False,
) -> Network:
    """Returns the functions of an imported graph.

    Args:
        graph: as `Graph.pack` wrote it, or itself.
        dtype: of the compute: float32 or bfloat16. Norms, softmax and reductions are
            float32 inside, and so are parameters, statistics and features.
        remat: recompute the activations between narrow places of the graph in the
            backward pass.
        freeze_batch_norm: normalise by the running statistics in training too.

    Raises:
        ConfigError: the text is no packed graph.
    """
    graph = Graph.unpack(graph) if isinstance(graph, str) else graph
    settings = _Settings(dtype, remat, freeze_batch_norm)
    cut = functools.cache(functools.partial(_cut, graph, dtype))
    return Network(
        init=functools.partial(_init, graph),
        trunk=functools.partial(_trunk, graph, settings, cut),
        neck=functools.partial(_neck, graph, settings, cut),
    )


class _Imported(NamedTuple):
    """An imported graph, as the factory takes it."""

    graph: Graph
    dtype: Any
    remat: bool

    def network(self, *, image_side: int, freeze_batch_norm: bool) -> Network:
        """Returns its functions; the images must have the size it was exported for."""
        if self.graph.input_side != image_side:
            raise ConfigError(
                f"model.graph: takes images of {self.graph.input_side} px, but they "
                f"are {image_side} px here; export the network for that size"
            )
        return build(
            self.graph,
            dtype=self.dtype,
            remat=self.remat,
            freeze_batch_norm=freeze_batch_norm,
        )


def _build(*, embedding_dim, dropout, dtype, remat, graph):
    graph = Graph.unpack(graph)
    sizes = (
        ("embedding_dim", embedding_dim, graph.embedding_dim),
        ("dropout", dropout, 0.0),
    )
    for key, got, expected in sizes:
        if got != expected:
            raise ConfigError(
                f"model.{key}: got {got}, must be {expected}, as in the imported graph"
            )
    return _Imported(graph, dtype, remat)


ONNX = BackboneEntry(
    _build,
    {"graph": Option("", None, "The packed graph, from `qface import`.")},
    has_dropout=False,
)


def _init(graph, key):
    leaves = {True: {}, False: {}}
    for number, weight in enumerate(graph.weights.values()):
        leaf_key = jax.random.fold_in(key, number)
        leaves[weight.statistic][weight.path] = _initial(weight)(leaf_key, weight.shape)
    return tuple(traverse_util.unflatten_dict(leaves[kind]) for kind in (False, True))


def _initial(weight: Weight):
    if weight.path[-1] == "kernel" and len(weight.shape) > 1:
        return KAIMING_FAN_OUT
    return _INITIAL.get(weight.path[-1], _POSITIONS)


def _cut(graph: Graph, dtype: Any) -> _Cut:
    """Returns where the neck begins, from the shapes that one image's values have."""
    shapes, static = {}, {}

    def run(leaves, image):
        context = Context(graph.opset, dtype, False, True, None, {}, mapped=False)
        values = _stored(graph, leaves) | {graph.input: _pixels(graph, dtype, image)}
        for node in graph.nodes:
            _compute(context, node, values)
        for name, value in values.items():
            shapes[name] = value.shape
            if value.static and name not in graph.constants:
                static[name] = value

    leaves = {
        weight.path: jax.ShapeDtypeStruct(weight.shape, jnp.float32)
        for weight in graph.weights.values()
    }
    side = graph.input_side
    jax.eval_shape(run, leaves, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    name = last_map(graph, shapes)
    numbers = [
        number for number, node in enumerate(graph.nodes) if name in node.outputs
    ]
    first = numbers[0] + 1 if name else 0
    made = {graph.input}.union(*(node.outputs for node in graph.nodes[:first]))
    read = {graph.output}.union(*(node.inputs for node in graph.nodes[first:]))
    return _Cut(name, first, tuple(sorted(made & read - static.keys())), static)


def _trunk(
    graph: Graph,
    settings: _Settings,
    cut: Callable[[], _Cut],
    params: Any,
    stats: Any,
    images: Float[Array, "b h w 3"],
    train: bool,
    key: jax.Array | None,
) -> tuple[TrunkOutput, dict[tuple[str, ...], jax.Array]]:
    """Returns the last feature map and what else the neck reads."""
    where = cut()
    pixels = _pixels(graph, settings.dtype, images)
    entering = {graph.input: _Carried(*pixels, False, pixels.array.dtype)}
    made, changed = _section(
        graph, settings, graph.nodes[: where.first], entering, where.carried, {},
        params, stats, train, key,
    )  # fmt: skip
    if not where.map:
        return TrunkOutput(None, (made,)), changed
    last = made[where.map]
    feature_map = last.stored(channels_last(4)).astype(jnp.float32)
    feature_map = feature_map.reshape(images.shape[0], *feature_map.shape[-3:])
    made[where.map] = dataclasses.replace(last, array=None)
    return TrunkOutput(feature_map, (made,)), changed


def _neck(
    graph: Graph,
    settings: _Settings,
    cut: Callable[[], _Cut],
    params: Any,
    stats: Any,
    output: TrunkOutput,
    train: bool,
    key: jax.Array | None,
) -> tuple[Float[Array, "b d"], dict[tuple[str, ...], jax.Array]]:
    """Returns the features."""
    where = cut()
    entering = dict(output.beside[0])
    if where.map:
        entering[where.map] = entering[where.map].taken_back(output.map)
    made, changed = _section(
        graph, settings, graph.nodes[where.first :], entering, (graph.output,),
        where.static, params, stats, train, key,
    )  # fmt: skip
    features = made[graph.output]
    features = features.stored(tuple(range(len(features.axes))))
    return features.reshape(features.shape[0], -1).astype(jnp.float32), changed


def _section(
    graph: Graph,
    settings: _Settings,
    nodes: Sequence[Node],
    entering: dict[str, _Carried],
    wanted: Collection[str],
    static: dict[str, Value],
    params: Any,
    stats: Any,
    train: bool,
    key: jax.Array | None,
) -> tuple[dict[str, _Carried], dict[tuple[str, ...], jax.Array]]:
    """Computes some nodes of a batch.

    Args:
        graph: their graph.
        settings: how they are computed.
        nodes: in an order in which each finds its inputs made.
        entering: name -> value that earlier nodes made.
        wanted: names of the values to return, none of them static.
        static: name -> value, of those that earlier nodes made.
        params: nested dict.
        stats: nested dict.
        train: drop out, and normalise by the batch.
        key: of the dropout, or None.

    Returns:
        The wanted values, and path -> new running statistic.
    """
    dtype, remat, frozen = settings
    frozen = frozen or not train
    together = Context(graph.opset, dtype, train, frozen, None, {}, mapped=False)
    leaves = traverse_util.flatten_dict(params) | traverse_util.flatten_dict(stats)
    stored = _stored(graph, leaves)
    values = {
        name: Value(each.array, each.axes)
        for name, each in entering.items()
        if not each.single
    }
    # With remat all nodes are cut into parts, so none are taken out before.
    rest = nodes if remat else _batched(nodes, together, stored, values)
    for name, value in values.items():
        if value.axes[0]:  # the images are not where vmap is told to look
            values[name] = in_order(value.plain())
    read = set().union(*(node.inputs for node in rest))
    batched = {name: values[name] for name in sorted(values.keys() & read)}
    axes: dict[str, tuple[int, ...]] = {}

    def one(arrays, key):
        """Computes the rest of one image."""
        context = Context(graph.opset, dtype, train, frozen, key, {})
        inside = stored | static
        for name, array in arrays.items():
            if name in batched:
                inside[name] = Value(array[None], batched[name].axes)
            else:
                inside[name] = Value(array, entering[name].axes)
        if remat:
            for first, end in narrow_parts(rest, wanted):
                _recomputed(context, rest, first, end, wanted, inside)
        else:
            for node in rest:
                _compute(context, node, inside)
        made = {name: inside[name] for name in wanted if name not in values}
        axes.update({name: value.axes for name, value in made.items()})
        return {name: value.array for name, value in made.items()}, context.updated

    arrays = {name: value.array for name, value in batched.items()}
    arrays |= {name: each.array for name, each in entering.items() if each.single}
    updated = together.updated
    made = {
        name: _Carried(
            values[name].array, values[name].axes, False, values[name].array.dtype
        )
        for name in wanted
        if name in values
    }
    if arrays:
        count = next(iter(arrays.values())).shape[0]  # may be a symbol, in an export
        keys = None if key is None else jax.random.split(key, count)
        mapped = jax.vmap(
            one,
            in_axes=(0, None if keys is None else 0),
            out_axes=(0, None),
            axis_name=IMAGE_AXIS,
        )
        singles, more = mapped(arrays, keys)
        updated |= more
        made |= {
            name: _Carried(array, axes[name], True, array.dtype)
            for name, array in singles.items()
        }
    return made, {graph.weights[name].path: new for name, new in updated.items()}


def _stored(graph: Graph, leaves: dict[tuple[str, ...], jax.Array]) -> dict[str, Value]:
    """Returns the constants, and the weights as values."""
    values = {name: in_order(array) for name, array in graph.constants.items()}
    for name, weight in graph.weights.items():
        values[name] = Value(leaves[weight.path], weight.axes)
    return values


def _pixels(graph: Graph, dtype: Any, images: Float[Array, "b h w 3"]) -> Value:
    """Returns the images as the graph's input."""
    pixels = images.astype(dtype)
    if graph.channels_first:
        return Value(pixels, channels_last(4))
    return in_order(pixels)


def _batched(
    nodes: Sequence[Node],
    context: Context,
    stored: dict[str, Value],
    values: dict[str, Value],
) -> list[Node]:
    """Computes what takes a batch as it takes an image; returns the other nodes.

    Args:
        nodes: in their order.
        context: of the whole batch.
        stored: weights and constants.
        values: those of all images; what is computed is added.
    """
    rest = []
    for node in nodes:
        batched = [name for name in node.inputs if name in values]
        others = [
            stored.get(name) for name in node.inputs if name and name not in values
        ]
        ranks = {values[name].rank for name in batched}
        alike = len(ranks) == 1 and None not in others
        if node.operator not in ELEMENTWISE:
            alike = alike and batched == [node.inputs[0]]
        if node.operator in ELEMENTWISE and alike:
            alike = all(
                other.rank < max(ranks)
                or (other.rank, other.shape[0]) == (max(ranks), 1)
                for other in others
            )
        if alike and node.operator in PER_IMAGE and min(ranks) > 1:
            known = stored | values
            _compute(context, node, known)
            values.update({name: known[name] for name in filter(None, node.outputs)})
        else:
            rest.append(node)
    return rest


def _compute(context: Context, node: Node, values: dict[str, Value]) -> None:
    """Adds a node's outputs to the values."""
    unknown = [name for name in node.inputs if name and name not in values]
    if unknown:
        raise ValueError(
            f"{node.operator} {node.name}: reads {unknown[0]}, which nothing makes"
        )
    inputs = [values[name] if name else None for name in node.inputs]
    try:
        outputs = OPERATORS[node.operator][0](context, node, *inputs)
        outputs = (outputs,) if isinstance(outputs, Value) else outputs
        for output in outputs:
            context.note(output)
    except (ArithmeticError, TypeError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{node.operator} {node.name}: {error}") from error
    for place, name in enumerate(node.outputs):
        if name and place >= len(outputs):
            raise ValueError(f"{node.operator} {node.name}: output {place + 1} is used")
        if name:
            values[name] = outputs[place]


def _recomputed(
    context: Context,
    nodes: Sequence[Node],
    first: int,
    end: int,
    wanted: Collection[str],
    values: dict[str, Value],
) -> None:
    """Computes the nodes from first to end, keeping only what is read later."""
    later = set(wanted).union(*(node.inputs for node in nodes[end:]))
    nodes = nodes[first:end]
    read = {name for node in nodes for name in node.inputs} & values.keys()
    static = {name for name in values if values[name].static}
    known: dict[str, Value] = {}
    axes: dict[str, tuple[int, ...]] = {}

    def run(arrays):
        context_inside = dataclasses.replace(context, updated={})
        inside = {name: values[name] for name in static}
        inside |= {name: Value(arrays[name], values[name].axes) for name in arrays}
        for node in nodes:
            _compute(context_inside, node, inside)
        made = {name: inside[name] for name in later & (inside.keys() - values.keys())}
        known.update({name: made[name] for name in made if made[name].static})
        made = {name: made[name] for name in made.keys() - known.keys()}
        axes.update({name: value.axes for name, value in made.items()})
        arrays = {name: value.array for name, value in made.items()}
        return arrays, context_inside.updated

    arrays = {name: values[name].array for name in sorted(read - static)}
    made, updated = jax.checkpoint(run)(arrays)
    context.updated.update(updated)
    values.update(known)
    values.update({name: Value(array, axes[name]) for name, array in made.items()})
