"""ONNX operators that sum or compare along axes: normalisations and reductions.

A reduction of static values stays static.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qface_jax.models.onnx.graph import Node
from qface_jax.models.onnx.values import (
    IMAGE_AXIS,
    Context,
    Value,
    axes_within,
    float32,
    in_order,
    integers,
    library_of,
    listed,
    traced,
)


def _per_channel(value, x):
    """Returns a vector over axis 1 shaped to act on x as it is stored."""
    shape = [1] * x.rank
    shape[x.place(1)] = -1
    return float32(value).reshape(shape)


def _batch_norm(
    context: Context,
    node: Node,
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    var: Value,
) -> Value:
    """As blocks.BatchNorm; the other images are found by the name of their axis."""
    numbers = traced(x.array).astype(jnp.float32)
    mean, var = float32(mean), float32(var)
    if not context.frozen:
        old_mean, old_var = mean, var
        channel = x.place(1)
        axes = tuple(axis for axis in range(x.rank) if axis != channel)
        shape = [1] * x.rank
        shape[channel] = -1
        mean, images = _over_batch(context, numbers.mean(axes))
        squares = jnp.square(numbers - mean.reshape(shape)).mean(axes)
        var, _ = _over_batch(context, squares)
        count = numbers.size // numbers.shape[channel] * images
        unbiased = var * (count / max(count - 1, 1))
        keep = node.attributes.get("momentum", 0.9)
        context.updated[node.inputs[3]] = keep * old_mean + (1 - keep) * mean
        context.updated[node.inputs[4]] = keep * old_var + (1 - keep) * unbiased
    factor = lax.rsqrt(var + node.attributes.get("epsilon", 1e-5)) * float32(scale)
    offset = float32(bias) - mean * factor
    y = numbers * _per_channel(in_order(factor), x) + _per_channel(in_order(offset), x)
    return Value(y.astype(_float(context, x)), x.axes)


def _over_batch(context, mean):
    """Returns the mean over a batch's images, and how many of them are outside."""
    if not context.mapped:
        return mean, 1
    return lax.pmean(mean, IMAGE_AXIS), lax.axis_size(IMAGE_AXIS)


def _float(context, x):
    """The dtype of the result of a computation done in float32."""
    dtype = x.array.dtype
    return dtype if dtype in (jnp.float32, jnp.bfloat16) else context.dtype


def _standardised(numbers, axes, epsilon):
    mean = numbers.mean(axes, keepdims=True)
    var = jnp.square(numbers - mean).mean(axes, keepdims=True)
    return (numbers - mean) * lax.rsqrt(var + epsilon)


def _instance_norm(
    context: Context, node: Node, x: Value, scale: Value, bias: Value
) -> Value:
    axes = tuple(x.place(axis) for axis in range(2, x.rank))
    numbers = traced(x.array).astype(jnp.float32)
    y = _standardised(numbers, axes, node.attributes.get("epsilon", 1e-5))
    y = y * _per_channel(scale, x) + _per_channel(bias, x)
    return Value(y.astype(_float(context, x)), x.axes)


def _layer_norm(
    context: Context, node: Node, x: Value, scale: Value, bias: Value | None = None
) -> Value:
    (first,) = axes_within((node.attributes.get("axis", -1),), x.rank)
    numbers = float32(x)
    axes = tuple(range(first, x.rank))
    y = _standardised(numbers, axes, node.attributes.get("epsilon", 1e-5))
    y = y * float32(scale.widened(x.rank))
    if bias is not None:
        y = y + float32(bias.widened(x.rank))
    return in_order(y.astype(_float(context, x)))


def _rms_norm(context: Context, node: Node, x: Value, scale: Value) -> Value:
    (first,) = axes_within((node.attributes.get("axis", -1),), x.rank)
    numbers = float32(x)
    axes = tuple(range(first, x.rank))
    square = jnp.square(numbers).mean(axes, keepdims=True)
    y = numbers * lax.rsqrt(square + node.attributes.get("epsilon", 1e-5))
    y = y * float32(scale.widened(x.rank))
    return in_order(y.astype(_float(context, x)))


def _group_norm(
    context: Context, node: Node, x: Value, scale: Value, bias: Value
) -> Value:
    """Scale and bias are per channel; up to opset 20 they are per group."""
    groups = node.attributes["num_groups"]
    numbers = float32(x)
    channels = numbers.shape[1]
    cut = numbers.reshape(numbers.shape[0], groups, -1)
    y = _standardised(cut, (2,), node.attributes.get("epsilon", 1e-5))
    y = y.reshape(numbers.shape)
    shape = (1, channels, *(1,) * (x.rank - 2))
    per_channel = [
        jnp.repeat(vector, channels // vector.size).reshape(shape)
        for vector in (float32(scale), float32(bias))
    ]
    return in_order((y * per_channel[0] + per_channel[1]).astype(_float(context, x)))


def _lp_norm(context: Context, node: Node, x: Value) -> Value:
    """Divides by the norm; as in PyTorch, not where it is 0."""
    power = node.attributes.get("p", 2)
    axis = x.place(node.attributes.get("axis", -1))
    numbers = traced(x.array).astype(jnp.float32)
    if power == 1:
        norm = jnp.abs(numbers).sum(axis, keepdims=True)
    elif power == 2:
        norm = _root(jnp.square(numbers).sum(axis, keepdims=True))
    else:
        raise ValueError(f"p {power}, expected 1 or 2")
    y = numbers / jnp.where(norm > 0, norm, 1)
    return Value(y.astype(_float(context, x)), x.axes)


def _root(squares: jax.Array) -> jax.Array:
    """Returns the square root, with gradient 0 (not infinite) at 0."""
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def _local_response(context: Context, node: Node, x: Value) -> Value:
    size = node.attributes["size"]
    channel = x.place(1)
    numbers = traced(x.array).astype(jnp.float32)
    window, paddings = [1] * x.rank, [(0, 0)] * x.rank
    window[channel] = size
    paddings[channel] = ((size - 1) // 2, size // 2)
    total = lax.reduce_window(
        jnp.square(numbers), 0.0, lax.add, window, (1,) * x.rank, paddings
    )
    share = node.attributes.get("alpha", 1e-4) / size
    scale = node.attributes.get("bias", 1.0) + share * total
    y = numbers / scale ** node.attributes.get("beta", 0.75)
    return Value(y.astype(_float(context, x)), x.axes)


def _softmax(function):
    def run(context: Context, node: Node, x: Value) -> Value:
        numbers = traced(x.array).astype(jnp.float32)
        axis = node.attributes.get("axis", -1 if context.opset >= 13 else 1)
        (first,) = axes_within((axis,), x.rank)
        # Up to opset 12 the axes from this one on were one.
        axes = (first,) if context.opset >= 13 else range(first, x.rank)
        y = function(numbers, axis=tuple(x.place(axis) for axis in axes))
        return Value(y.astype(_float(context, x)), x.axes)

    return run


def _reduction(function, static=None):
    """Reductions; in float32 also where the compute is in bfloat16."""

    def run(context: Context, node: Node, x: Value, axes: Value | None = None) -> Value:
        numbers = listed(node, "axes", axes, "axes")
        keep = bool(node.attributes.get("keepdims", 1))
        if not numbers:
            if node.attributes.get("noop_with_empty_axes", 0):
                return x
            numbers = range(x.rank)
        over = axes_within(numbers, x.rank)
        if x.static and static is not None:
            return in_order(np.asarray(static(x.plain(), axis=over, keepdims=keep)))
        if keep:
            places = tuple(x.place(axis) for axis in over)
            return Value(_wide(function, x.array, places, keepdims=True), x.axes)
        return in_order(_wide(function, x.plain(), over, keepdims=False))

    return run


def _wide(function, array, axes, *, keepdims):
    array = traced(array)
    if array.dtype != jnp.bfloat16:
        return function(array, axis=axes, keepdims=keepdims)
    result = function(array.astype(jnp.float32), axis=axes, keepdims=keepdims)
    return result.astype(jnp.bfloat16)


def _norm(array, **kwargs):
    return _root(jnp.sum(jnp.square(array), **kwargs))


def _log_sum_exp(array, **kwargs):
    largest = lax.stop_gradient(array.max(axis=kwargs["axis"], keepdims=True))
    total = jnp.log(jnp.exp(array - largest).sum(**kwargs))
    return total + largest.reshape(total.shape)


def _cumulative(context: Context, node: Node, x: Value, axis: Value) -> Value:
    if node.attributes.get("exclusive", 0) or node.attributes.get("reverse", 0):
        raise ValueError("exclusive or reverse sums, expected plain ones")
    place = x.place(integers(axis, "axis")[0])
    return Value(library_of(x).cumsum(x.array, place, dtype=x.array.dtype), x.axes)


_REDUCED = ("axes", "keepdims", "noop_with_empty_axes")

# Name -> (function, attributes that it knows).
OPERATORS = {
    "BatchNormalization": (_batch_norm, ("epsilon", "momentum", "training_mode")),
    "GroupNormalization": (_group_norm, ("epsilon", "num_groups", "stash_type")),
    "InstanceNormalization": (_instance_norm, ("epsilon",)),
    "LRN": (_local_response, ("alpha", "beta", "bias", "size")),
    "LayerNormalization": (_layer_norm, ("axis", "epsilon", "stash_type")),
    "LogSoftmax": (_softmax(jax.nn.log_softmax), ("axis",)),
    "LpNormalization": (_lp_norm, ("axis", "p")),
    "RMSNormalization": (_rms_norm, ("axis", "epsilon", "stash_type")),
    "Softmax": (_softmax(jax.nn.softmax), ("axis",)),
    "CumSum": (_cumulative, ("exclusive", "reverse")),
    "ReduceL1": (_reduction(lambda x, **k: jnp.sum(jnp.abs(x), **k)), _REDUCED),
    "ReduceL2": (_reduction(_norm), _REDUCED),
    "ReduceLogSum": (_reduction(lambda x, **k: jnp.log(jnp.sum(x, **k))), _REDUCED),
    "ReduceLogSumExp": (_reduction(_log_sum_exp), _REDUCED),
    "ReduceMax": (_reduction(jnp.max, np.max), _REDUCED),
    "ReduceMean": (_reduction(jnp.mean), _REDUCED),
    "ReduceMin": (_reduction(jnp.min, np.min), _REDUCED),
    "ReduceProd": (_reduction(jnp.prod, np.prod), _REDUCED),
    "ReduceSum": (_reduction(jnp.sum, np.sum), _REDUCED),
    "ReduceSumSquare": (
        _reduction(lambda x, **k: jnp.sum(jnp.square(x), **k)),
        _REDUCED,
    ),
}
