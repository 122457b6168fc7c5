"""ONNX operators that move, cut and reduce; on static values they stay static.

What follows from shapes alone (Shape, Gather, Concat, then Reshape) is computed by
numpy while the program is traced.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from qface_jax.models.onnx.graph import Node
from qface_jax.models.onnx.values import (
    Context,
    Value,
    axes_within,
    bounded,
    in_order,
    integers,
    library_of,
    listed,
    matched,
    traced,
)


def _reshape(context: Context, node: Node, x: Value, shape: Value) -> Value:
    target = list(integers(shape, "shape"))
    if not node.attributes.get("allowzero", 0):
        target = [
            x.shape[axis] if size == 0 else size for axis, size in enumerate(target)
        ]
    return in_order(x.plain().reshape(target))


def _flatten(context: Context, node: Node, x: Value) -> Value:
    axis = node.attributes.get("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return in_order(x.plain().reshape(rows, -1))


def _transpose(context: Context, node: Node, x: Value) -> Value:
    """Nothing moves: the order of the stored axes is read differently."""
    order = node.attributes.get("perm", tuple(reversed(range(x.rank))))
    return Value(x.array, tuple(order.index(axis) for axis in x.axes))


def _concat(context: Context, node: Node, *values: Value) -> Value:
    axis = node.attributes["axis"]
    if all(value.static for value in values):
        bounded([sum(value.array.size for value in values)])
        return in_order(np.concatenate([value.plain() for value in values], axis))
    arrays, axes = matched(*values)
    place = Value(arrays[0], axes).place(axis)
    return Value(jnp.concatenate(arrays, place), axes)


def _split(
    context: Context, node: Node, x: Value, sizes: Value | None = None
) -> tuple[Value, ...]:
    place = x.place(node.attributes.get("axis", 0))
    length = x.array.shape[place]
    lengths = listed(node, "split", sizes, "sizes")
    if lengths is None:
        count = len(node.outputs)
        each = -(-length // count)
        lengths = [min(each, length - each * part) for part in range(count)]
    cuts = np.cumsum(lengths)[:-1].tolist()
    parts = library_of(x).split(x.array, cuts, place)
    return tuple(Value(part, x.axes) for part in parts)


def _slice(context: Context, node: Node, x: Value, *bounds: Value | None) -> Value:
    starts, ends, axes, steps = (
        listed(node, name, bounds[place] if place < len(bounds) else None, name)
        for place, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    axes = range(len(starts)) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    index = [slice(None)] * x.rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = x.shape[axis]
        # Backwards, an end before the first entry means: including the first.
        stop = None if step < 0 and end < -length else end
        index[x.place(axis)] = slice(start, stop, step)
    return Value(x.array[tuple(index)], x.axes)


def _squeeze(
    context: Context, node: Node, x: Value, axes: Value | None = None
) -> Value:
    numbers = listed(node, "axes", axes, "axes")
    if numbers is None:
        numbers = [axis for axis, size in enumerate(x.shape) if size == 1]
    return in_order(x.plain().squeeze(axes_within(numbers, x.rank)))


def _unsqueeze(
    context: Context, node: Node, x: Value, axes: Value | None = None
) -> Value:
    numbers = listed(node, "axes", axes, "axes")
    places = axes_within(numbers, x.rank + len(numbers))
    return in_order(library_of(x).expand_dims(x.plain(), places))


def _gather(context: Context, node: Node, x: Value, indices: Value) -> Value:
    (axis,) = axes_within((node.attributes.get("axis", 0),), x.rank)
    length = x.shape[axis]
    rows = indices.plain()
    if x.static and indices.static:
        bounded((*rows.shape, *x.shape[:axis], *x.shape[axis + 1 :]))
        return in_order(np.asarray(np.take(x.plain(), rows, axis)))
    rows = np.where(rows < 0, rows + length, rows) if indices.static else rows
    rows = traced(rows)
    rows = jnp.where(rows < 0, rows + length, rows)
    return in_order(jnp.take(traced(x.plain()), rows, axis))


def _scatter(
    context: Context, node: Node, x: Value, indices: Value, updates: Value
) -> Value:
    if node.attributes.get("reduction", "none") != "none":
        raise ValueError("a reduction, expected none: the entries are replaced")
    if not indices.static:
        raise ValueError("its indices depend on the image's pixels")
    index = tuple(np.moveaxis(indices.plain(), -1, 0))
    if x.static and updates.static:
        array = x.plain().copy()
        array[index] = updates.plain()
        return in_order(array)
    array = traced(x.plain())
    new = traced(updates.plain()).astype(array.dtype)
    return in_order(array.at[index].set(new))


def _expand(context: Context, node: Node, x: Value, shape: Value) -> Value:
    target = np.broadcast_shapes(x.shape, integers(shape, "shape"))
    wide = x.widened(len(target))
    stored = tuple(target[axis] for axis in wide.axes)
    if x.static:
        bounded(stored)
    return Value(library_of(x).broadcast_to(wide.array, stored), wide.axes)


def _tile(context: Context, node: Node, x: Value, repeats: Value) -> Value:
    counts = integers(repeats, "repeats")
    if x.static:
        bounded(size * count for size, count in zip(x.shape, counts, strict=True))
    return in_order(library_of(x).tile(x.plain(), counts))


def _pad(
    context: Context,
    node: Node,
    x: Value,
    pads: Value | None = None,
    filling: Value | None = None,
    axes: Value | None = None,
) -> Value:
    amounts = listed(node, "pads", pads, "pads")
    count = len(amounts) // 2
    places = range(count) if axes is None else integers(axes, "axes")
    widths = [(0, 0)] * x.rank
    for axis, before, behind in zip(
        places, amounts[:count], amounts[count:], strict=True
    ):
        widths[x.place(axis)] = (before, behind)
    mode = node.attributes.get("mode", "constant")
    array = traced(x.array)
    if mode == "constant":
        number = node.attributes.get("value", 0.0)
        number = number if filling is None else filling.array.reshape(())
        number = jnp.asarray(number, array.dtype)
        return Value(lax.pad(array, number, [(*width, 0) for width in widths]), x.axes)
    if mode not in ("reflect", "edge", "wrap"):
        raise ValueError(f"mode {mode!r}, expected constant, reflect, edge or wrap")
    return Value(jnp.pad(array, widths, mode), x.axes)


def _shape(context: Context, node: Node, x: Value) -> Value:
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return in_order(np.asarray(x.shape[start:end], np.int64))


def _size(context: Context, node: Node, x: Value) -> Value:
    return in_order(np.asarray(x.array.size, np.int64))


def _filled(context: Context, node: Node, shape: Value) -> Value:
    """The importer writes the tensor attribute as a number and its dtype's name."""
    number = node.attributes.get("value", 0.0)
    dtype = np.dtype(node.attributes.get("dtype", "float32"))
    return in_order(np.full(bounded(integers(shape, "shape")), number, dtype))


def _range(context: Context, node: Node, *bounds: Value) -> Value:
    if not all(bound.static for bound in bounds):
        raise ValueError("its bounds depend on the image's pixels")
    dtype = bounds[0].array.dtype
    numbers = [bound.array.reshape(()).item() for bound in bounds]
    start, limit, step = numbers
    if step == 0:
        raise ValueError("its step is 0, expected another number")
    bounded([max(0, math.ceil((limit - start) / step))])
    return in_order(np.arange(*numbers, dtype=dtype))


def _depth_to_space(context: Context, node: Node, x: Value) -> Value:
    side = node.attributes["blocksize"]
    array = x.plain()
    b, c, h, w = array.shape
    if node.attributes.get("mode", "DCR") == "DCR":
        cut = array.reshape(b, side, side, c // side**2, h, w)
        cut = cut.transpose(0, 3, 4, 1, 5, 2)
    else:
        cut = array.reshape(b, c // side**2, side, side, h, w)
        cut = cut.transpose(0, 1, 4, 2, 5, 3)
    return in_order(cut.reshape(b, c // side**2, h * side, w * side))


def _space_to_depth(context: Context, node: Node, x: Value) -> Value:
    side = node.attributes["blocksize"]
    array = x.plain()
    b, c, h, w = array.shape
    cut = array.reshape(b, c, h // side, side, w // side, side)
    cut = cut.transpose(0, 3, 5, 1, 2, 4)
    return in_order(cut.reshape(b, c * side**2, h // side, w // side))


def _triangle(
    context: Context, node: Node, x: Value, diagonal: Value | None = None
) -> Value:
    number = 0 if diagonal is None else integers(diagonal, "diagonal")[0]
    library = library_of(x)
    function = library.triu if node.attributes.get("upper", 1) else library.tril
    return in_order(function(x.plain(), number))


# Name -> (function, attributes that it knows).
OPERATORS = {
    "Concat": (_concat, ("axis",)),
    "ConstantOfShape": (_filled, ("value", "dtype")),
    "DepthToSpace": (_depth_to_space, ("blocksize", "mode")),
    "Expand": (_expand, ()),
    "Flatten": (_flatten, ("axis",)),
    "Gather": (_gather, ("axis",)),
    "Pad": (_pad, ("mode", "pads", "value")),
    "Range": (_range, ()),
    "Reshape": (_reshape, ("allowzero",)),
    "ScatterND": (_scatter, ("reduction",)),
    "Shape": (_shape, ("start", "end")),
    "Size": (_size, ()),
    "Slice": (_slice, ("starts", "ends", "axes", "steps")),
    "SpaceToDepth": (_space_to_depth, ("blocksize",)),
    "Split": (_split, ("axis", "split", "num_outputs")),
    "Squeeze": (_squeeze, ("axes",)),
    "Tile": (_tile, ()),
    "Transpose": (_transpose, ("perm",)),
    "Trilu": (_triangle, ("upper",)),
    "Unsqueeze": (_unsqueeze, ("axes",)),
}
