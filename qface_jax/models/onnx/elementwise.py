"""ONNX operators that act on each number by itself."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.models.onnx.graph import Node
from qface_jax.models.onnx.values import Context, Value, matched, traced

# ONNX's numbers of types; all floats are float32 here (or the compute dtype).
_FLOATS = frozenset({1, 10, 11, 16})
_INTEGERS = {
    2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64,
    9: np.bool_, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


def _unary(function, static=None):
    def run(context: Context, node: Node, x: Value) -> Value:
        if x.static and static is not None:
            return Value(np.asarray(static(x.array)), x.axes)
        return Value(function(traced(x.array)), x.axes)

    return run


def _with_numbers(function, **defaults):
    """An activation whose attributes are numbers, passed by name."""

    def run(context: Context, node: Node, x: Value) -> Value:
        numbers = {name: node.attributes.get(name, defaults[name]) for name in defaults}
        return Value(function(traced(x.array), **numbers), x.axes)

    return run


def _binary(function, static):
    def run(context: Context, node: Node, *values: Value) -> Value:
        arrays, axes = matched(*values)
        known = isinstance(arrays[0], np.ndarray)
        result = functools.reduce(static if known else function, arrays)
        return Value(np.asarray(result) if known else result, axes)

    return run


def _divide(a, b):
    """Integers are divided towards zero."""
    library = np if isinstance(a, np.ndarray) else jnp
    if library.issubdtype(a.dtype, library.floating):
        return library.divide(a, b)
    return library.sign(a) * library.sign(b) * (library.abs(a) // library.abs(b))


def _mod(context: Context, node: Node, a: Value, b: Value) -> Value:
    name = "fmod" if node.attributes.get("fmod", 0) else "mod"
    return _binary(getattr(jnp, name), getattr(np, name))(context, node, a, b)


def _power(context: Context, node: Node, base: Value, exponent: Value) -> Value:
    (a, b), axes = matched(base, exponent)
    if isinstance(a, np.ndarray):
        return Value(np.asarray(np.power(a, b)).astype(a.dtype), axes)
    # A whole constant exponent has a gradient at 0 too, unlike exp(b log a).
    if exponent.static and exponent.array.size == 1:
        number = float(exponent.array.ravel()[0])
        if number == int(number):
            return Value(jnp.power(a, int(number)), axes)
        return Value(jnp.power(a, number), axes)
    return Value(jnp.power(a, b.astype(a.dtype)), axes)


def _mean(context: Context, node: Node, *values: Value) -> Value:
    total = OPERATORS["Sum"][0](context, node, *values)
    return Value(total.array / len(values), total.axes)


def _prelu(context: Context, node: Node, x: Value, slope: Value) -> Value:
    (numbers, slopes), axes = matched(x, slope)
    numbers, slopes = traced(numbers), traced(slopes)
    return Value(jnp.where(numbers >= 0, numbers, numbers * slopes), axes)


def _clip(context: Context, node: Node, x: Value, *bounds: Value | None) -> Value:
    limits = [node.attributes.get("min"), node.attributes.get("max")]
    for place, bound in enumerate(bounds):
        if bound is not None:
            limits[place] = bound.array.reshape(())
    if x.static:
        return Value(np.clip(x.array, *limits).astype(x.array.dtype), x.axes)
    y = x.array
    # Like this the gradient needs no more than which numbers are within.
    for limit, beyond in zip(limits, (jnp.less, jnp.greater), strict=True):
        if limit is not None:
            limit = jnp.asarray(limit, y.dtype)
            y = jnp.where(beyond(x.array, limit), limit, y)
    return Value(y, x.axes)


def _where(context: Context, node: Node, chosen: Value, a: Value, b: Value) -> Value:
    (mask, yes, no), axes = matched(chosen, a, b)
    library = np if isinstance(mask, np.ndarray) else jnp
    return Value(library.where(mask, yes, no), axes)


def _cast(context: Context, node: Node, x: Value) -> Value:
    return _to(x, node.attributes["to"])


def _to(x, kind):
    floating = jnp.issubdtype(x.array.dtype, jnp.floating)
    if kind in _FLOATS:
        return x if floating else Value(x.array.astype(np.float32), x.axes)
    if kind not in _INTEGERS:
        raise ValueError(f"cast to ONNX type {kind}, expected a number or bool")
    if x.static:
        return Value(x.array.astype(_INTEGERS[kind]), x.axes)
    narrow = {np.int64: np.int32, np.uint64: np.uint32}
    dtype = _INTEGERS[kind]
    return Value(x.array.astype(narrow.get(dtype, dtype)), x.axes)


def _cast_like(context: Context, node: Node, x: Value, like: Value) -> Value:
    dtype = like.array.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return _to(x, 1)
    return Value(x.array.astype(dtype), x.axes)


def _identity(context: Context, node: Node, x: Value) -> Value:
    return x


def _dropout(
    context: Context,
    node: Node,
    x: Value,
    ratio: Value | None = None,
    training: Value | None = None,
) -> Value:
    """Drops in training, by the exported ratio; exporters mostly leave the node out."""
    if ratio is None:
        rate = float(node.attributes.get("ratio", 0.5))
    else:
        rate = float(ratio.array)
    if not context.train or rate == 0:
        return x
    if context.key is None:
        raise ValueError(
            f"{node.name} drops out at rate {rate} in training: got key None, "
            "expected a random key"
        )
    node_key = jax.random.fold_in(context.key, zlib.crc32(node.outputs[0].encode()))
    keep = jax.random.bernoulli(node_key, 1 - rate, x.array.shape)
    return Value(jnp.where(keep, x.array / (1 - rate), 0), x.axes)


def _gelu(context: Context, node: Node, x: Value) -> Value:
    kind = node.attributes.get("approximate", "none")
    if kind not in ("none", "tanh"):
        raise ValueError(f"approximate {kind!r}, expected none or tanh")
    return Value(jax.nn.gelu(traced(x.array), approximate=kind == "tanh"), x.axes)


def _selu(x, alpha, gamma):
    return gamma * jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))


def _hard_sigmoid(x, alpha, beta):
    return jnp.clip(alpha * x + beta, 0, 1)


def _plain_functions():
    """Operators that numpy and JAX both know, by ONNX name."""
    names = {
        "Abs": "abs", "Ceil": "ceil", "Cos": "cos", "Exp": "exp", "Floor": "floor",
        "Log": "log", "Neg": "negative", "Not": "logical_not", "Round": "round",
        "Sign": "sign", "Sin": "sin", "Sqrt": "sqrt", "Tanh": "tanh",
    }  # fmt: skip
    unary = {
        onnx: (_unary(getattr(jnp, name), getattr(np, name)), ())
        for onnx, name in names.items()
    }
    names = {
        "Add": "add", "And": "logical_and", "Equal": "equal", "Greater": "greater",
        "GreaterOrEqual": "greater_equal", "Less": "less", "Max": "maximum",
        "LessOrEqual": "less_equal", "Min": "minimum", "Mul": "multiply",
        "Or": "logical_or", "Sub": "subtract", "Sum": "add", "Xor": "logical_xor",
    }  # fmt: skip
    binary = {
        onnx: (_binary(getattr(jnp, name), getattr(np, name)), ())
        for onnx, name in names.items()
    }
    return unary | binary


# Name -> (function, attributes that it knows).
OPERATORS = _plain_functions() | {
    "Cast": (_cast, ("to", "saturate", "round_mode")),
    "CastLike": (_cast_like, ("saturate", "round_mode")),
    "Celu": (_with_numbers(jax.nn.celu, alpha=1.0), ("alpha",)),
    "Clip": (_clip, ("min", "max")),
    "Div": (_binary(_divide, _divide), ()),
    "Dropout": (_dropout, ("ratio", "seed")),
    "Elu": (_with_numbers(jax.nn.elu, alpha=1.0), ("alpha",)),
    "Erf": (_unary(jax.lax.erf), ()),
    "Gelu": (_gelu, ("approximate",)),
    "HardSigmoid": (
        _with_numbers(_hard_sigmoid, alpha=0.2, beta=0.5),
        ("alpha", "beta"),
    ),
    "HardSwish": (_unary(lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5)), ()),
    "Identity": (_identity, ()),
    "LeakyRelu": (
        _with_numbers(lambda x, alpha: jnp.where(x >= 0, x, x * alpha), alpha=0.01),
        ("alpha",),
    ),
    "Mean": (_mean, ()),
    "Mish": (_unary(lambda x: x * jnp.tanh(jax.nn.softplus(x))), ()),
    "Mod": (_mod, ("fmod",)),
    "PRelu": (_prelu, ()),
    "Pow": (_power, ()),
    "Reciprocal": (_unary(lambda x: 1 / x, lambda x: 1 / x), ()),
    "Relu": (_unary(jax.nn.relu), ()),
    "Selu": (
        _with_numbers(_selu, alpha=1.6732632423543772, gamma=1.0507009873554805),
        ("alpha", "gamma"),
    ),
    "Sigmoid": (_unary(jax.nn.sigmoid), ()),
    "Softplus": (_unary(jax.nn.softplus), ()),
    "Softsign": (_unary(jax.nn.soft_sign), ()),
    "ThresholdedRelu": (
        _with_numbers(lambda x, alpha: jnp.where(x > alpha, x, 0), alpha=1.0),
        ("alpha",),
    ),
    "Where": (_where, ()),
}
