"""ONNX operators that sum products or look at windows: convolution, pooling, Gemm."""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from qface_jax.models.convolution import conv2d
from qface_jax.models.onnx.graph import Node
from qface_jax.models.onnx.values import (
    Context,
    Value,
    bounded,
    channels_last,
    in_order,
    matched,
    traced,
)

_MAX_WINDOW = 1024  # pixels of a side


def _computed(context, value, axes):
    """Returns the array in the compute dtype, its axes in the given order."""
    return traced(value.stored(axes)).astype(context.dtype)


def _paddings(
    node: Node,
    sides: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """Returns zeros before and behind each spatial axis."""
    kind = node.attributes.get("auto_pad", "NOTSET")
    count = len(sides)
    if kind == "NOTSET":
        pads = node.attributes.get("pads", (0,) * (2 * count))
        return list(zip(pads[:count], pads[count:], strict=True))
    if kind == "VALID":
        return [(0, 0)] * count
    if kind not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad {kind!r}, expected NOTSET, VALID or SAME_*")
    paddings = []
    for side, width, stride, dilation in zip(
        sides, kernel, strides, dilations, strict=True
    ):
        reach = (width - 1) * dilation + 1
        total = max((math.ceil(side / stride) - 1) * stride + reach - side, 0)
        small, large = total // 2, total - total // 2
        paddings.append((small, large) if kind == "SAME_UPPER" else (large, small))
    return paddings


def _numbers(node, name, count):
    return tuple(node.attributes.get(name, (1,) * count))


def _refuse_windows(kernel, strides, dilations, paddings):
    """Refuses windows that no network has, which would take for ever to trace."""
    sizes = (*kernel, *strides, *dilations)
    zeros = [abs(number) for pair in paddings for number in pair]
    if min(sizes, default=1) < 1 or max((*sizes, *zeros), default=1) > _MAX_WINDOW:
        raise ValueError(
            f"kernel {list(kernel)}, strides {list(strides)}, dilations "
            f"{list(dilations)}, pads {paddings}; expected 1 to {_MAX_WINDOW}, pads "
            f"of at most {_MAX_WINDOW}"
        )


def _convolve(
    context: Context, node: Node, x: Value, kernel: Value, bias: Value | None = None
) -> Value:
    spatial = x.rank - 2
    if spatial not in (1, 2, 3) or kernel.rank != x.rank:
        raise ValueError(
            f"input with {x.rank} axes and kernel with {kernel.rank}, expected as "
            "many, 3 to 5"
        )
    last = channels_last(x.rank)
    strides = _numbers(node, "strides", spatial)
    dilations = _numbers(node, "dilations", spatial)
    groups = node.attributes.get("group", 1)
    paddings = _paddings(node, x.shape[2:], kernel.shape[2:], strides, dilations)
    _refuse_windows(kernel.shape[2:], strides, dilations, paddings)
    images = _computed(context, x, last)
    weights = _computed(context, kernel, (*range(2, x.rank), 1, 0))
    same = {*strides}, {*(zeros for pair in paddings for zeros in pair)}
    if spatial == 2 and {*dilations} == {1} and all(len(kind) == 1 for kind in same):
        (stride,), (zeros,) = same
        y = conv2d(images, weights, stride=stride, padding=zeros, groups=groups)
    else:
        letters = "DHW"[-spatial:]
        y = lax.conv_general_dilated(
            images,
            weights,
            window_strides=strides,
            padding=paddings,
            rhs_dilation=dilations,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            feature_group_count=groups,
        )
    if bias is not None:
        y = y + _computed(context, bias, (0,)).reshape((1,) * (x.rank - 1) + (-1,))
    return Value(y, last)


def _windows(node: Node, x: Value) -> tuple[tuple, list[tuple[int, int]], list[int]]:
    """Returns (kernel, strides, dilations), paddings and what ceil_mode adds behind."""
    sides = x.shape[2:]
    kernel = node.attributes["kernel_shape"]
    strides = _numbers(node, "strides", len(sides))
    dilations = _numbers(node, "dilations", len(sides))
    paddings = _paddings(node, sides, kernel, strides, dilations)
    _refuse_windows(kernel, strides, dilations, paddings)
    more = [0] * len(sides)
    if node.attributes.get("ceil_mode", 0):
        for axis, (before, behind) in enumerate(paddings):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            stride = strides[axis]
            padded = sides[axis] + before + behind - reach
            steps = math.ceil(padded / stride)
            # A window that would begin behind the last pixel is left out.
            steps -= steps * stride >= sides[axis] + before
            more[axis] = max(steps * stride - padded, 0)
    return (tuple(kernel), strides, dilations), paddings, more


def _reduced(x, windows, paddings, more, initial, function):
    """Returns a reduction over windows, channels last."""
    kernel, strides, dilations = ((1, *sizes, 1) for sizes in windows)
    spread = [
        (before, behind + extra)
        for (before, behind), extra in zip(paddings, more, strict=True)
    ]
    return lax.reduce_window(
        x,
        np.asarray(initial, x.dtype)[()],  # concrete, or there is no gradient
        function,
        kernel,
        strides,
        ((0, 0), *spread, (0, 0)),
        window_dilation=dilations,
    )


def _max_pool(context: Context, node: Node, x: Value) -> Value:
    last = channels_last(x.rank)
    images = traced(x.stored(last))
    windows, paddings, more = _windows(node, x)
    if {*windows[2]} != {1}:
        return Value(_dilated_max(images, windows, paddings, more), last)
    return Value(_reduced(images, windows, paddings, more, -np.inf, lax.max), last)


def _dilated_max(x, windows, paddings, more):
    """JAX has no gradient of a dilated window's maximum."""
    spread = [
        (before, behind + extra, 0)
        for (before, behind), extra in zip(paddings, more, strict=True)
    ]
    lowest = np.asarray(-np.inf, x.dtype)[()]
    x = lax.pad(x, lowest, [(0, 0, 0), *spread, (0, 0, 0)])
    kernel, strides, dilations = windows
    if math.prod(kernel) > _MAX_WINDOW:
        raise ValueError(
            f"a dilated window {list(kernel)} of over {_MAX_WINDOW} pixels"
        )
    reaches = [
        side - (width - 1) * dilation
        for side, width, dilation in zip(x.shape[1:-1], kernel, dilations, strict=True)
    ]
    places = [
        tuple(
            slice(start * dilation, start * dilation + reach, stride)
            for start, dilation, reach, stride in zip(
                place, dilations, reaches, strides, strict=True
            )
        )
        for place in np.ndindex(*kernel)
    ]
    return functools.reduce(jnp.maximum, [x[:, *place] for place in places])


def _average_pool(context: Context, node: Node, x: Value) -> Value:
    last = channels_last(x.rank)
    windows, paddings, more = _windows(node, x)
    total = _reduced(traced(x.stored(last)), windows, paddings, more, 0.0, lax.add)
    padded = bool(node.attributes.get("count_include_pad", 0))
    places = zip(total.shape[1:-1], x.shape[2:], *windows, paddings, strict=True)
    counts = np.ones((1,) * x.rank, np.float32)
    for axis, place in enumerate(places, start=1):
        shape = [-1 if axis == place else 1 for place in range(x.rank)]
        counts = counts * _pixels_seen(*place, padded=padded).reshape(shape)
    return Value(total / jnp.asarray(counts, total.dtype), last)


def _pixels_seen(outputs, side, width, stride, dilation, padding, *, padded):
    """Returns how many pixels of one axis each window averages."""
    before, behind = padding
    starts = np.arange(outputs) * stride - before
    seen = starts[:, None] + np.arange(width) * dilation
    first, end = (-before, side + behind) if padded else (0, side)
    return ((seen >= first) & (seen < end)).sum(1).astype(np.float32)


def _global_pool(function):
    def run(context: Context, node: Node, x: Value) -> Value:
        axes = tuple(x.place(axis) for axis in range(2, x.rank))
        return Value(function(traced(x.array), axes, keepdims=True), x.axes)

    return run


def _matrix(context: Context, node: Node, *inputs: Value | None) -> Value:
    """Gemm: alpha A B + beta C, A and B transposed where it says so."""
    a, b, *rest = inputs
    alpha = node.attributes.get("alpha", 1.0)
    beta = node.attributes.get("beta", 1.0)
    left = _computed(context, a, (1, 0) if node.attributes.get("transA", 0) else (0, 1))
    right = _computed(
        context, b, (1, 0) if node.attributes.get("transB", 0) else (0, 1)
    )
    y = jnp.einsum("ij,jk->ik", left, right)
    y = y if alpha == 1 else y * alpha
    if rest and rest[0] is not None:
        (y, added), _ = matched(in_order(y), rest[0])
        y = y + (added if beta == 1 else added * beta)
    return in_order(y)


def _multiply(context: Context, node: Node, a: Value, b: Value) -> Value:
    if a.static and b.static:
        bounded((*a.shape, b.shape[-1]))  # of the multiplications
        bounded((*b.shape, *a.shape[-2:-1]))
        return in_order(np.asarray(np.matmul(a.plain(), b.plain())))
    left = _computed(context, a, tuple(range(a.rank)))
    right = _computed(context, b, tuple(range(b.rank)))
    return in_order(jnp.matmul(left, right))


def _einsum(context: Context, node: Node, *values: Value) -> Value:
    arrays = [_computed(context, value, tuple(range(value.rank))) for value in values]
    return in_order(jnp.einsum(node.attributes["equation"].replace(" ", ""), *arrays))


_WINDOW = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")

# Name -> (function, attributes that it knows).
OPERATORS = {
    "AveragePool": (_average_pool, (*_WINDOW, "count_include_pad")),
    "Conv": (
        _convolve,
        ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"),
    ),
    "Einsum": (_einsum, ("equation",)),
    "Gemm": (_matrix, ("alpha", "beta", "transA", "transB")),
    "GlobalAveragePool": (_global_pool(jnp.mean), ()),
    "GlobalMaxPool": (_global_pool(jnp.max), ()),
    "MatMul": (_multiply, ()),
    "MaxPool": (_max_pool, (*_WINDOW, "storage_order")),
}
