"""An imported ONNX network as a backbone whose weights are trained.

The graph is a function of one image and is vmapped over a batch: so a graph that was
exported for a batch of one, with that 1 in its shapes, takes any batch. Images meet in
batch norms only, which find each other by the name of the vmapped axis. The nodes up to
the first one that could tell one image from a batch take the batch as it is: the same
numbers, but a convolutional network's gradient is a third faster on a CPU.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float

from qface_jax.models.blocks import KAIMING_FAN_OUT
from qface_jax.models.network import Network
from qface_jax.models.onnx.feature_map import ADDED, marked
from qface_jax.models.onnx.graph import Graph, Node, Weight
from qface_jax.models.onnx.operators import ELEMENTWISE, OPERATORS, PER_IMAGE
from qface_jax.models.onnx.parts import narrow_parts
from qface_jax.models.onnx.values import (
    IMAGE_AXIS,
    Context,
    Value,
    channels_last,
    in_order,
)

_POSITIONS = nn.initializers.normal(0.02)  # of what is no kernel, bias, scale or slope
_INITIAL = {
    "bias": nn.initializers.zeros,
    "mean": nn.initializers.zeros,
    "negative_slope": nn.initializers.constant(0.25),
    "scale": nn.initializers.ones,
    "var": nn.initializers.ones,
}


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
    options = (dtype, remat, freeze_batch_norm)
    run = functools.partial(_over_images, graph, *options)
    with_map = functools.partial(_with_map, graph, options)
    return Network(
        init=functools.partial(_init, graph),
        evaluate=functools.partial(_evaluate, run),
        train=functools.partial(_train, run),
        evaluate_with_map=functools.partial(_evaluate_with_map, with_map),
        train_with_map=with_map,
    )


def _init(graph, key):
    leaves = {True: {}, False: {}}
    for number, weight in enumerate(graph.weights.values()):
        own = jax.random.fold_in(key, number)
        leaves[weight.statistic][weight.path] = _initial(weight)(own, weight.shape)
    return tuple(traverse_util.unflatten_dict(leaves[kind]) for kind in (False, True))


def _initial(weight: Weight):
    if weight.path[-1] == "kernel" and len(weight.shape) > 1:
        return KAIMING_FAN_OUT
    return _INITIAL.get(weight.path[-1], _POSITIONS)


def _evaluate(run, params, stats, images):
    return run(params, stats, images, None, train=False)[0][0]


def _train(run, params, stats, images, key):
    (features, _), new = run(params, stats, images, key)
    return features, new


def _evaluate_with_map(with_map, params, stats, images, added):
    return with_map(params, stats, images, None, added, train=False)[0]


def _with_map(graph, options, params, stats, images, key, added, *, train=True):
    graph = marked(graph, _shapes(graph), adds=added is not None)
    return _over_images(graph, *options, params, stats, images, key, added, train=train)


def _shapes(graph):
    """Returns the shape that each value has of one image."""
    found = {}

    def run(leaves, image):
        context = Context(graph.opset, jnp.float32, False, True, None, {}, mapped=False)
        values = _entrance(graph, context, leaves, image)
        for node in graph.nodes:
            _compute(context, node, values)
        found.update({name: value.shape for name, value in values.items()})

    leaves = {
        weight.path: jax.ShapeDtypeStruct(weight.shape, jnp.float32)
        for weight in graph.weights.values()
    }
    side = graph.input_side
    jax.eval_shape(run, leaves, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    return found


def _over_images(
    graph: Graph,
    dtype: Any,
    remat: bool,
    frozen: bool,
    params: Any,
    stats: Any,
    images: Float[Array, "b h w 3"],
    key: jax.Array | None,
    added: Float[Array, "b p q c"] | None = None,
    *,
    train: bool = True,
) -> tuple[tuple[Float[Array, "b d"], Float[Array, "b p q c"] | None], Any]:
    """Returns the features, the marked feature map, and the new statistics."""
    params = traverse_util.flatten_dict(params)
    stats = traverse_util.flatten_dict(stats)

    frozen = frozen or not train
    together = Context(graph.opset, dtype, train, frozen, None, {}, mapped=False)
    values = _entrance(graph, together, params | stats, images)
    if added is not None:
        values[ADDED] = Value(added, channels_last(4))
    # With remat all nodes are cut into parts, so none are taken out before.
    nodes = graph.nodes if remat else _batched(graph, together, values)
    graph = dataclasses.replace(graph, nodes=tuple(nodes))
    shared, batched = _read(graph, values)

    def one(arrays, key):
        context = Context(graph.opset, dtype, train, frozen, key, {})
        own = {
            name: Value(array[None], batched[name].axes)
            for name, array in arrays.items()
        }
        return _one_image(graph, context, shared | own, remat=remat), context.updated

    keys = None if key is None else jax.random.split(key, images.shape[0])
    mapped = jax.vmap(
        one,
        in_axes=(0, None if keys is None else 0),
        out_axes=(0, None),
        axis_name=IMAGE_AXIS,
    )
    arrays = {name: value.array for name, value in batched.items()}
    outputs, updated = mapped(arrays, keys)
    updated = together.updated | updated
    new = {graph.weights[name].path: value for name, value in updated.items()}
    return outputs, traverse_util.unflatten_dict(stats | new)


def _entrance(
    graph: Graph,
    context: Context,
    leaves: dict[tuple[str, ...], jax.Array],
    images: Float[Array, "b h w 3"],
) -> dict[str, Value]:
    """Returns all values before the first node."""
    values = {name: in_order(array) for name, array in graph.constants.items()}
    for name, weight in graph.weights.items():
        values[name] = Value(leaves[weight.path], weight.axes)
    pixels = images.astype(context.dtype)
    if graph.channels_first:
        values[graph.input] = Value(pixels, channels_last(4))
    else:
        values[graph.input] = in_order(pixels)
    return values


def _batched(graph: Graph, context: Context, values: dict[str, Value]) -> list[Node]:
    """Computes what takes a batch as it takes an image; returns the other nodes."""
    made, rest = {graph.input, ADDED}, []
    for node in graph.nodes:
        batched = [name for name in node.inputs if name in made]
        others = [values.get(name) for name in node.inputs if name and name not in made]
        ranks = {values[name].rank for name in batched}
        alike = len(ranks) == 1 and None not in others
        if node.operator not in ELEMENTWISE:
            alike = alike and batched == [node.inputs[0]]
        if node.operator in ELEMENTWISE and alike:
            alike = all(
                own.rank < max(ranks) or (own.rank, own.shape[0]) == (max(ranks), 1)
                for own in others
            )
        if alike and node.operator in PER_IMAGE and min(ranks) > 1:
            _compute(context, node, values)
            made.update(filter(None, node.outputs))
        else:
            rest.append(node)
    return rest


def _read(graph, values):
    """Returns the values that the nodes read: without, and with an axis for images."""
    read = {graph.output, graph.marked}.union(*(node.inputs for node in graph.nodes))
    stored = graph.weights.keys() | graph.constants.keys()
    shared = {name: values[name] for name in stored & read}
    batched = {name: values[name] for name in sorted(values.keys() & read - stored)}
    for name, value in batched.items():
        if value.axes[0]:  # the images are not where vmap is told to look
            batched[name] = in_order(value.plain())
    return shared, batched


def _one_image(
    graph: Graph, context: Context, values: dict[str, Value], *, remat: bool
) -> tuple[Float[Array, " d"], Float[Array, "p q c"] | None]:
    """Returns the features of one image and its marked feature map."""
    if remat:
        for first, end in narrow_parts(graph):
            _recomputed(graph, context, first, end, values)
    else:
        for node in graph.nodes:
            _compute(context, node, values)
    features = values[graph.output].plain().reshape(-1).astype(jnp.float32)
    if not graph.marked:
        return features, None
    feature_map = values[graph.marked].stored(channels_last(4))[0]
    return features, feature_map.astype(jnp.float32)


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
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{node.operator} {node.name}: {error}") from error
    outputs = (outputs,) if isinstance(outputs, Value) else outputs
    for place, name in enumerate(node.outputs):
        if name and place >= len(outputs):
            raise ValueError(f"{node.operator} {node.name}: output {place + 1} is used")
        if name:
            values[name] = outputs[place]


def _recomputed(
    graph: Graph, context: Context, first: int, end: int, values: dict[str, Value]
) -> None:
    """Computes the nodes from first to end, keeping only what the later ones read."""
    nodes = graph.nodes[first:end]
    later = {name for node in graph.nodes[end:] for name in node.inputs}
    later |= {graph.output, graph.marked}
    read = {name for node in nodes for name in node.inputs} & values.keys()
    static = {name for name in values if values[name].static}
    known: dict[str, Value] = {}
    axes: dict[str, tuple[int, ...]] = {}

    def run(arrays):
        inner = dataclasses.replace(context, updated={})
        own = {name: values[name] for name in static}
        own |= {name: Value(arrays[name], values[name].axes) for name in arrays}
        for node in nodes:
            _compute(inner, node, own)
        made = {name: own[name] for name in later & (own.keys() - values.keys())}
        known.update({name: made[name] for name in made if made[name].static})
        made = {name: made[name] for name in made.keys() - known.keys()}
        axes.update({name: value.axes for name, value in made.items()})
        return {name: value.array for name, value in made.items()}, inner.updated

    arrays = {name: values[name].array for name in sorted(read - static)}
    made, updated = jax.checkpoint(run)(arrays)
    context.updated.update(updated)
    values.update(known)
    values.update({name: Value(array, axes[name]) for name, array in made.items()})
