"""ONNX operators that sum or compare along axes; on static values they stay static."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from qface_jax.models.onnx.graph import Node
from qface_jax.models.onnx.normalisation import root
from qface_jax.models.onnx.values import (
    Context,
    Value,
    axes_within,
    in_order,
    integers,
    library_of,
    listed,
    traced,
)


def _reduction(function, static=None):
    """Reductions; in float32 also where the compute is in bfloat16."""

    def run(context: Context, node: Node, x: Value, axes: Value | None = None) -> Value:
        given = listed(node, "axes", axes, "axes")
        keep = bool(node.attributes.get("keepdims", 1))
        if not given:
            if node.attributes.get("noop_with_empty_axes", 0):
                return x
            given = range(x.rank)
        over = axes_within(given, x.rank)
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
    return root(jnp.sum(jnp.square(array), **kwargs))


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
