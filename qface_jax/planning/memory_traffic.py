"""Bytes that a program compiled for a TPU moves between a chip's memory and its core.

`Compiled.cost_analysis()` counts the body of a loop once, and some operands of which a
slice is read as a whole; so it is counted here, instruction by instruction. What is
inside a fusion stays in the core. Values that the compiler keeps in the core's own
memory, S(1) in the text, are not counted; those in the chip's memory count as they lie
there, with the padding of their tiles. Of what only the data decides the least counts:
a loop once, of branches the smallest. An operand of which a fusion reads a part by
other means than a slice counts as a whole.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from qface_jax.planning.hlo_text import (
    Instruction,
    bits,
    branches,
    named,
    parse,
    trips,
)

# Names and places: what they name is counted where it is read or written.
_FREE = frozenset(
    {
        "after-all", "bitcast", "constant", "get-tuple-element", "opt-barrier",
        "parameter", "partition-id", "replica-id", "tuple",
    }
)  # fmt: skip
_SLICES = ("slice", "dynamic-slice", "gather")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)((?::[^}]*)?)\})?")


class _Array(NamedTuple):
    """One array of a shape.

    Attributes:
        kind: Type of its numbers.
        sizes: Along each axis.
        minor_first: Axes in the order in which they lie in memory.
        place: Tiles and memory space, as text.
    """

    kind: str
    sizes: list[int]
    minor_first: list[int]
    place: str


def read(text: str) -> int:
    """Returns the bytes that one device reads and writes in one call.

    Args:
        text: `jax.stages.Compiled.as_text()`, of a TPU.
    """
    entry, computations = parse(text)
    return _count(entry, computations, {})


def _count(name: str, computations: dict, known: dict[str, int]) -> int:
    if name in known:
        return known[name]
    total = 0
    around = {line.name: line for line in computations[name]}
    shapes = {line.name: line.shape for line in computations[name]}
    for line in computations[name]:
        if line.kind in _FREE or line.kind.endswith(("-done", "-update")):
            continue
        if line.kind == "while":
            body = _count(named(line, "body"), computations, known)
            times = trips(line, around, computations)
            total += body if times is None else times * body
        elif line.kind in ("call", "async-start"):
            total += _count(named(line, "to_apply|calls"), computations, known)
        elif line.kind == "conditional":
            total += min(_count(one, computations, known) for one in branches(line))
        elif line.kind == "fusion":
            total += _of_fusion(line, shapes, computations)
        else:
            total += _of_instruction(line, shapes)
    known[name] = total
    return total


def _of_instruction(line: Instruction, shapes: dict[str, str]) -> int:
    operands = [shapes.get(name, "") for name in line.operands]
    if line.kind in _SLICES:
        return 2 * in_memory(line.shape)
    if line.kind == "dynamic-update-slice":
        return 2 * in_memory(operands[1])
    if line.kind == "copy-start":
        target, source, *_ = _ARRAY.finditer(line.shape)
        return in_memory(target[0]) + in_memory(source[0])
    if line.kind.endswith("-start"):
        return in_memory(line.shape)  # which holds the operands, too
    return in_memory(line.shape) + sum(map(in_memory, operands))


def _of_fusion(line: Instruction, shapes: dict[str, str], computations: dict) -> int:
    inside = {one.name: one for one in computations[named(line, "calls")]}
    parameters = {
        int(re.match(r"\((\d+)\)", one.rest)[1]): one.name
        for one in inside.values()
        if one.kind == "parameter"
    }
    updated, written = _written(line, inside)
    read_bytes = sum(
        _read_of(parameters[number], inside, shapes.get(operand, ""))
        for number, operand in enumerate(line.operands)
        if parameters[number] != updated
    )
    return read_bytes + written


def _written(line: Instruction, inside: dict[str, Instruction]) -> tuple[str, int]:
    """What a fusion writes: the operand that it changes in place, if any, and bytes."""
    root = next(one for one in inside.values() if one.is_root)
    while root.kind in ("bitcast", "copy") and root.operands[0] in inside:
        root = inside[root.operands[0]]
    if root.kind != "dynamic-update-slice":
        return "", in_memory(line.shape)
    target = inside[root.operands[0]]
    while target.kind == "bitcast":
        target = inside[target.operands[0]]
    if target.kind != "parameter":
        return "", in_memory(line.shape)
    whole = in_memory(line.shape)
    return target.name, min(whole, _logical(inside[root.operands[1]].shape))


def _read_of(parameter: str, inside: dict[str, Instruction], shape: str) -> int:
    """Bytes of an operand that a fusion reads."""
    whole = in_memory(shape)
    readers = [one for one in inside.values() if parameter in one.operands]
    if not whole or not readers:
        return 0
    if all(one.kind in _SLICES and one.operands[0] == parameter for one in readers):
        return min(whole, sum(_logical(one.shape) for one in readers))
    return whole


def _logical(shape: str) -> int:
    """Bytes of the numbers of all arrays of a shape, without padding."""
    return sum(bits(one.kind) * math.prod(one.sizes) // 8 for one in _arrays(shape))


def in_memory(shape: str) -> int:
    """Returns the bytes of a shape's arrays in the chip's memory, with their padding.

    Args:
        shape: As HLO writes it; a tuple's parts add up.
    """
    total = 0
    for one in _arrays(shape):
        if re.search(r"S\([1-9]", one.place):
            continue
        sizes = list(one.sizes)
        if tile := re.search(r"T\(([\d,]+)\)", one.place):
            sides = [int(side) for side in tile[1].split(",")]
            for axis, side in zip(one.minor_first, reversed(sides), strict=False):
                sizes[axis] = -(-sizes[axis] // side) * side
        total += bits(one.kind) * math.prod(sizes) // 8
    return total


def _arrays(shape: str) -> Iterator[_Array]:
    for kind, sizes, order, place in _ARRAY.findall(shape):
        yield _Array(kind, _numbers(sizes), _numbers(order), place)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
