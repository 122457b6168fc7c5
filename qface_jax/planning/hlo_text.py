"""The text of a compiled program (XLA's HLO): its computations and instructions."""

import re
from typing import NamedTuple

_INSTRUCTION = re.compile(r"(ROOT )?%([\w.-]+) = (.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) \(.*-> .*\{$")
_COMMENT = re.compile(r"/\*.*?\*/")
_BITS = re.compile(r"[a-z]+(\d+)")


class Instruction(NamedTuple):
    """One line of a program.

    Attributes:
        name: Its name within the computation.
        shape: Type and shape of the result, as text; of a tuple, those of its parts.
        kind: Operation.
        operands: Names of the arguments.
        rest: The line from the arguments on.
        is_root: Whether it is the result of its computation.
    """

    name: str
    shape: str
    kind: str
    operands: list[str]
    rest: str
    is_root: bool


def parse(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """Reads a program.

    Args:
        text: `jax.stages.Compiled.as_text()`.

    Returns:
        The name of its entry, and the instructions of each computation by its name.

    Raises:
        ValueError: it is no program.
    """
    entry, computations, lines = "", {}, []
    for line in text.splitlines():
        line = _COMMENT.sub("", line).strip()
        if header := _COMPUTATION.match(line):
            lines = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif match := _INSTRUCTION.match(line):
            lines.append(_instruction(match[2], match[3], is_root=bool(match[1])))
    if not entry:
        raise ValueError("got no program: expected the text of a compiled HLO module")
    return entry, computations


def _instruction(name: str, text: str, *, is_root: bool) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shape, call = text[:end], text[end:].lstrip()
    opening = call.index("(")
    inside = call[opening : _closing(call, opening)]
    operands = re.findall(r"%([\w.-]+)", inside)
    return Instruction(name, shape, call[:opening], operands, call[opening:], is_root)


def _closing(text: str, opening: int) -> int:
    """Index of the bracket that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"unbalanced brackets in {text[:80]!r}")


def trips(line: Instruction) -> int | None:
    """How often a loop runs; None where the compiler did not know."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line.rest)
    return int(known[1]) if known else None


def named(line: Instruction, key: str) -> str:
    """The computation that an instruction names under a key."""
    return re.search(rf"\b(?:{key})=%([\w.-]+)", line.rest)[1]


def branches(line: Instruction) -> list[str]:
    """The computations of a conditional."""
    lists = re.findall(
        r"(?:branch_computations=\{|(?:true|false)_computation=)([^}=]*)", line.rest
    )
    return re.findall(r"%([\w.-]+)", " ".join(lists))


def bits(kind: str) -> int:
    """Size of a number of a type, as `bf16` or `pred`; 0 of what is no array."""
    if kind in ("token", "opaque"):
        return 0
    return 8 if kind == "pred" else int(_BITS.match(kind)[1])
