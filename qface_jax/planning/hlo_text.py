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


def trips(
    line: Instruction,
    around: dict[str, Instruction],
    computations: dict[str, list[Instruction]],
) -> int | None:
    """Returns how often a loop runs; None where the program does not say.

    CPU and GPU programs have it as a note. Of a TPU's it is read where a counter is
    raised by one up to a constant, as in what `lax.scan` becomes.

    Args:
        line: The loop.
        around: Instructions of the computation that it is in, by name.
        computations: Those of the program.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line.rest):
        return int(known[1])
    condition = _by_name(computations[named(line, "condition")])
    body = _by_name(computations[named(line, "body")])
    test = _result(condition)
    if test.kind != "compare" or "direction=LT" not in test.rest:
        return None
    counter, limit = (condition[name] for name in test.operands)
    after, before = _result(body), around[line.operands[0]]
    if counter.kind != "get-tuple-element" or {after.kind, before.kind} != {"tuple"}:
        return None
    place = int(re.search(r"index=(\d+)", counter.rest)[1])
    raised = body[after.operands[place]]
    if raised.kind != "add":
        return None
    by = [_constant(body, name) for name in raised.operands]
    first, last = _constant(around, before.operands[place]), _constant_of(limit)
    if 1 not in by or first is None or last is None:
        return None
    return max(0, last - first)


def _by_name(lines: list[Instruction]) -> dict[str, Instruction]:
    return {line.name: line for line in lines}


def _result(lines: dict[str, Instruction]) -> Instruction:
    return next(line for line in lines.values() if line.is_root)


def _constant(lines: dict[str, Instruction], name: str) -> int | None:
    """The number that a name stands for; None where it is no constant."""
    line = lines[name]
    while line.kind == "copy":
        line = lines[line.operands[0]]
    return _constant_of(line)


def _constant_of(line: Instruction) -> int | None:
    value = re.match(r"\((-?\d+)\)", line.rest)
    return int(value[1]) if line.kind == "constant" and value else None


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
