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

PRODUCTS = "products"
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

_BITS = re.compile(r"[a-z]+(\d+)")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"(?:ROOT )?%([\w.-]+) = (.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) \(.*-> .*\{$")
_COMMENT = re.compile(r"/\*.*?\*/")
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


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
        name: Its name within the computation.
        shape: Type and shape of the result, as text; of a tuple, those of its parts.
        kind: Operation.
        operands: Names of the arguments.
        rest: The line from the arguments on.
    """

    name: str
    shape: str
    kind: str
    operands: list[str]
    rest: str


def read(text: str) -> Cost:
    """Returns the work and the traffic of one device.

    Args:
        text: `jax.stages.Compiled.as_text()`.

    Raises:
        ValueError: if it cannot be counted: a loop of unknown length or a branch with
            products or collectives inside, or an instruction of unknown meaning.
    """
    entry, computations = _parse(text)
    total = _count(entry, computations, {})
    traffic = {kind: total[kind] for kind in COLLECTIVES if total[kind]}
    return Cost(total[PRODUCTS], traffic)


def _parse(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """The name of the program's entry, and the instructions of each computation."""
    entry, computations, lines = "", {}, []
    for line in text.splitlines():
        line = _COMMENT.sub("", line).strip()
        if header := _COMPUTATION.match(line):
            lines = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif match := _INSTRUCTION.match(line):
            lines.append(_instruction(match[1], match[2]))
    if not entry:
        raise ValueError("got no program: expected the text of a compiled HLO module")
    return entry, computations


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shape, call = text[:end], text[end:].lstrip()
    opening = call.index("(")
    inside = call[opening : _closing(call, opening)]
    operands = re.findall(r"%([\w.-]+)", inside)
    return Instruction(name, shape, call[:opening], operands, call[opening:])


def _closing(text: str, opening: int) -> int:
    """Index of the bracket that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"unbalanced brackets in {text[:80]!r}")


def _count(name: str, computations: dict, known: dict[str, Counter]) -> Counter:
    """Work and traffic of a computation and all that it calls."""
    if name in known:
        return known[name]
    total = Counter()
    shapes = {line.name: line.shape for line in computations[name]}
    for line in computations[name]:
        if line.kind in ("fusion", "call"):
            total += _count(_named(line, "calls|to_apply"), computations, known)
        elif line.kind == "while":
            body = _count(_named(line, "body"), computations, known)
            total += _repeated(body, line)
        elif line.kind == "conditional":
            for branch in _branches(line):
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


def _repeated(body: Counter, line: Instruction) -> Counter:
    if not body:
        return body
    trips = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line.rest)
    if trips is None:
        raise ValueError(
            f"%{line.name}: a loop of unknown length with {', '.join(body)} inside "
            "cannot be counted"
        )
    return Counter({kind: int(trips[1]) * count for kind, count in body.items()})


def _named(line: Instruction, key: str) -> str:
    """The computation that an instruction names under a key."""
    return re.search(rf"\b(?:{key})=%([\w.-]+)", line.rest)[1]


def _branches(line: Instruction) -> list[str]:
    lists = re.findall(
        r"(?:branch_computations=\{|(?:true|false)_computation=)([^}=]*)", line.rest
    )
    return re.findall(r"%([\w.-]+)", " ".join(lists))


def _dimensions(shape: str) -> list[int]:
    return [int(size) for size in _ARRAY.search(shape)[2].split(",") if size]


def _bytes(shape: str) -> int:
    total = 0
    for kind, sizes in _ARRAY.findall(shape):
        bits = 8 if kind == "pred" else int(_BITS.match(kind)[1])
        total += math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
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
