"""What one device computes and sends, read from the text of a compiled program.

`Compiled.cost_analysis()` counts the body of a loop once, however often it runs, and
says nothing about the network; so both are counted here, instruction by instruction.

Work is that of matrix products and convolutions, two operations for each pair of
numbers that is multiplied and added, as is usual for neural networks; products with
padding do not count. Bytes are those that a device sends, which are as many as it
receives, when n devices stand in a ring:

    all-gather, all-to-all   (n - 1) / n of the result
    reduce-scatter           (n - 1) / n of the argument
    all-reduce               twice (n - 1) / n of the result: scatter, then gather
    collective-permute       the result
"""

import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from qface_jax.planning.hlo_text import (
    Instruction,
    bits,
    branches,
    named,
    parse,
    trips,
)

PRODUCTS = "products"
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
# What would be overlooked: transfers of other kinds, and products inside a library.
_TRANSFER = re.compile(r"(all-|reduce-scatter|collective-|ragged-|async-|send|recv)")
_LIBRARY = re.compile(r'custom_call_target="[^"]*(matmul|gemm|conv|dot|dnn)', re.I)


class Cost(NamedTuple):
    """What one device does in one call of a program.

    Attributes:
        work: Floating point operations of matrix products and convolutions.
        traffic: Bytes sent by kind of collective; only kinds that occur.
    """

    work: int
    traffic: dict[str, int]


def read(text: str) -> Cost:
    """Returns the work and the traffic of one device.

    Args:
        text: `jax.stages.Compiled.as_text()`.

    Raises:
        ValueError: if it cannot be counted: a loop of unknown length or a branch with
            products or collectives inside, or an instruction of unknown meaning.
    """
    entry, computations = parse(text)
    total = _count(entry, computations, {})
    traffic = {kind: total[kind] for kind in COLLECTIVES if total[kind]}
    return Cost(total[PRODUCTS], traffic)


def _count(name: str, computations: dict, known: dict[str, Counter]) -> Counter:
    """Work and traffic of a computation and all that it calls."""
    if name in known:
        return known[name]
    total = Counter()
    around = {line.name: line for line in computations[name]}
    shapes = {line.name: line.shape for line in computations[name]}
    for line in computations[name]:
        if line.kind in ("fusion", "call"):
            total += _count(named(line, "calls|to_apply"), computations, known)
        elif line.kind == "while":
            body = _count(named(line, "body"), computations, known)
            total += _repeated(body, line, trips(line, around, computations))
        elif line.kind == "conditional":
            for branch in branches(line):
                if _count(branch, computations, known):
                    raise ValueError(
                        f"%{line.name}: products or collectives in a branch cannot be "
                        "counted"
                    )
        else:
            total += _of_instruction(line, shapes)
    known[name] = total
    return total


def _of_instruction(line: Instruction, shapes: dict[str, str]) -> Counter:
    """Work or traffic of an instruction itself."""
    if line.kind == "dot":
        return Counter({PRODUCTS: _dot(line, shapes)})
    if line.kind == "convolution":
        return Counter({PRODUCTS: _convolution(line, shapes)})
    if line.kind in COLLECTIVES:
        return Counter({line.kind: _sent(line)})
    if _TRANSFER.match(line.kind) or _LIBRARY.search(line.rest):
        raise ValueError(f"%{line.name}: {line.kind} cannot be counted")
    return Counter()


def _repeated(body: Counter, line: Instruction, times: int | None) -> Counter:
    if not body:
        return body
    if times is None:
        raise ValueError(
            f"%{line.name}: a loop of unknown length with {', '.join(body)} inside "
            "cannot be counted"
        )
    return Counter({kind: times * count for kind, count in body.items()})


def _dimensions(shape: str) -> list[int]:
    return [int(size) for size in _ARRAY.search(shape)[2].split(",") if size]


def _bytes(shape: str) -> int:
    total = 0
    for kind, sizes in _ARRAY.findall(shape):
        total += (
            math.prod(int(size) for size in sizes.split(",") if size) * bits(kind) // 8
        )
    return total


def _group(line: Instruction) -> int:
    """How many devices take part in a collective together."""
    if first := re.search(r"replica_groups=\{\{([\d,]+)\}", line.rest):
        return len(first[1].split(","))
    if first := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line.rest):
        return int(first[1])
    # A mesh with the axes that the groups run along.
    if first := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line.rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", first[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", first[2]))
    raise ValueError(f"%{line.name}: cannot tell how many devices take part")


def _sent(line: Instruction) -> int:
    """Bytes that one device sends in a ring."""
    result = _bytes(line.shape)
    if line.kind == "collective-permute":
        return result
    others = _group(line) - 1
    if line.kind == "reduce-scatter":
        return result * others
    passes = 2 if line.kind == "all-reduce" else 1
    return round(passes * result * others / (others + 1))


def _dot(line: Instruction, shapes: dict[str, str]) -> int:
    summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)[1]
    sizes = _dimensions(shapes[line.operands[0]])
    contracted = math.prod(sizes[int(axis)] for axis in summed.split(",") if axis)
    return 2 * math.prod(_dimensions(line.shape)) * contracted


def _convolution(line: Instruction, shapes: dict[str, str]) -> int:
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.rest)
    images, kernel = (_dimensions(shapes[name]) for name in line.operands)
    result = _dimensions(line.shape)
    total = 2 * kernel[labels[2].index("i")]
    total *= result[labels[3].index("b")] * result[labels[3].index("f")]
    window = re.search(r"window=\{([^}]*)\}", line.rest)
    window = window[1] if window else ""
    for axis in range(len(result) - 2):
        total *= _inside(
            images[labels[1].index(str(axis))],
            kernel[labels[2].index(str(axis))],
            result[labels[3].index(str(axis))],
            _window(window, axis),
        )
    return total


def _window(window: str, axis: int) -> dict[str, str]:
    """Stride, padding and dilations of an axis, where they are given."""
    return {
        key: values.split("x")[axis]
        for key, values in re.findall(r"(\w+)=(\S+)", window)
    }


def _inside(image: int, kernel: int, result: int, window: dict[str, str]) -> int:
    """Pairs of a result and a kernel position that meet a pixel, along one axis."""
    stride = int(window.get("stride", 1))
    spread = int(window.get("lhs_dilate", 1))
    step = int(window.get("rhs_dilate", 1))
    before = int(window.get("pad", "0_0").split("_")[0])
    place = stride * np.arange(result)[:, None] + step * np.arange(kernel) - before
    inside = (place >= 0) & (place <= (image - 1) * spread) & (place % spread == 0)
    return int(inside.sum())
