"""The JSON of a result: every value's type and range, checked while it is rebuilt.

The types are those of the dataclasses themselves, so that a new field is checked too.
What the types cannot say (a cell must fit its column, a row its table) follows them.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qface_jax.storage.files import read_bytes

MOST_BYTES = 2**27  # of a file; a protocol's details take some million
_DEEPEST = 32  # levels of what a protocol writes as it likes
_LARGEST = 2**53  # of whole numbers: the largest that JSON's readers agree on


def read(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
        ValueError: There is none, or it is too large or too deep for a result.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"has {size:,} bytes, expected at most {MOST_BYTES:,}")
    try:
        document = json.loads(read_bytes(path))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError(f"holds {_named(document)}, expected a group")
    return document


def built(hint: Any, value: Any, place: str = "") -> Any:
    """Returns a value of JSON as what a type hint says, dataclasses rebuilt.

    Args:
        hint: `str`, `int`, `float`, `bool`, `None`, `Any`, `list[...]`,
            `dict[str, ...]`, a union of them, or a dataclass.
        value: Of `json.loads`.
        place: Of the value in the document, for messages.

    Raises:
        ValueError: It is of another type, out of range, missing or unknown.
    """
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, place)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list and isinstance(value, list):
        (inner,) = arguments
        return [built(inner, one, f"{place}[{i}]") for i, one in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        inner = arguments[1]
        return {key: built(inner, one, f"{place}.{key}") for key, one in value.items()}
    if origin in (types.UnionType, typing.Union):
        fitting = [one for one in arguments if _fits(one, value)]
        if fitting:
            return built(fitting[0], value, place)
    elif hint is Any:
        _check_plain(value, place, _DEEPEST)
        return value
    elif origin is None and _fits(hint, value):
        return value
    raise ValueError(f"{place[:80]}: got {_named(value)}, expected {_words(hint)}")


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a plain type, or may be of a type with parts."""
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return is_number(value)
    if hint is int:
        return type(value) is int and abs(value) <= _LARGEST
    return type(value) is (typing.get_origin(hint) or hint)


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int and abs(value) <= _LARGEST


def _dataclass(cls: type, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place[:80]}: got {_named(value)}, expected a group")
    before = f"{place}." if place else ""
    hints = _hints(cls)
    if unknown := [name for name in value if name not in hints]:
        raise ValueError(f"{before}{unknown[0][:80]}: unknown key")
    for field in dataclasses.fields(cls):
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in value:
            raise ValueError(f"{before}{field.name}: is missing")
    return cls(
        **{
            name: built(hints[name], one, f"{before}{name}")
            for name, one in value.items()
        }
    )


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check_plain(value: Any, place: str, levels: int) -> None:
    """Raises ValueError where a value of any shape is too deep, or no finite number."""
    if isinstance(value, list | dict):
        if levels == 0:
            raise ValueError(f"{place[:80]}: is nested too deeply")
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            _check_plain(part, f"{place}.{name}", levels - 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not is_number(value):
            raise ValueError(f"{place[:80]}: got {_named(value)}, expected a number")


def _named(value: Any) -> str:
    """What a value is, in a few words, however large or deep it is."""
    if isinstance(value, dict | list):
        kind = "group" if isinstance(value, dict) else "list"
        return f"a {kind} of {len(value):,}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text):,} characters)"


def _words(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(map(_words, typing.get_args(hint)))
    if hint in (None, type(None)):
        return "null"
    words = {
        str: "a text", float: "a finite number", bool: "true or false",
        int: "a whole number", list: "a list", dict: "a group",
    }  # fmt: skip
    return words[typing.get_origin(hint) or hint]


def _is_pair(value: Any) -> bool:
    """A rate, or a rate and its spread, either of which may be missing."""
    return (
        isinstance(value, list)
        and len(value) in (1, 2)
        and all(one is None or is_number(one) for one in value)
    )


# Format of a column, a key of `text_table.FORMATS` -> which values it takes.
CELLS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: not isinstance(value, list | dict),
    "percent": is_number,
    "percents": _is_pair,
    "signed": is_number,
    "number": is_number,
    "count": is_number,
}


def check_format(form: str, place: str) -> None:
    """Raises ValueError where cells have no such format."""
    if form not in CELLS:
        raise ValueError(
            f"{place}: got {_named(form)}, must be one of {', '.join(CELLS)}"
        )


def check_row(row: list[Any], formats: list[str], place: str) -> None:
    """Raises ValueError where a row does not fit the columns of its table."""
    if len(row) != len(formats):
        raise ValueError(f"{place}: has {len(row)} cells of {len(formats)} columns")
    for value, form in zip(row, formats, strict=True):
        if not (value is None or isinstance(value, str) or CELLS[form](value)):
            raise ValueError(f"{place}: got {_named(value)} in a column of {form}")
