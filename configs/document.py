"""A config as a document: its keys and types, as JSON, its hash, what two differ in.

The keys and their types are those of `configs/base.py`.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from qface_jax.configs import base
from qface_jax.errors import ConfigError

_LONG = 200  # characters: paths are shorter, the packed graph of a model is not
_SHOWN = 60  # of a longer value


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every leaf, in the order of the file."""
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as what JSON can hold."""
    return json.loads(config.to_json())


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """Returns the config that `to_dict` wrote, with the types of today's base.

    Raises:
        ConfigError: if a key is no longer known or has another type.
    """
    config = base.get_config()
    known = dict(flatten(config))
    problems = []
    for path, value in flatten(ConfigDict(values)):
        if path not in known:
            problems.append(f"{path}: unknown key")
            continue
        problem = assign(config, path, _as_tuple(value))
        if problem:
            problems.append(problem)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"the saved config does not fit this version\n{lines}")
    return config.lock()


def digest(config: ConfigDict) -> str:
    """Returns a short hash of every key and value."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Returns one line for each key whose value differs."""
    before, after = dict(flatten(old)), dict(flatten(new))
    return [
        f"{path}: was {shortened(repr(before[path]))}, "
        f"now {shortened(repr(after[path]))}"
        for path in before
        if before[path] != after[path]
    ]


def shortened(text: str) -> str:
    """Returns the text; of one that no line can hold its beginning, length and hash."""
    if len(text) <= _LONG:
        return text
    mark = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{text[:_SHOWN]}... ({len(text):,} characters, hash {mark})"


@functools.cache
def declared_type(path: str) -> tuple[type, bool]:
    """Returns the type of a key in base, and whether None is allowed."""
    *groups, leaf = path.split(".")
    config = base.get_config()
    for group in groups:
        config = config[group]
    return config.get_type(leaf), config[leaf] is None


def expected(path: str) -> str:
    """Returns what a value of that key must be, for messages."""
    declared, optional = declared_type(path)
    return declared.__name__ + (" or None" if optional else "")


def fits(path: str, value: Any) -> bool:
    """Returns whether a value has the type of that key."""
    declared, optional = declared_type(path)
    if value is None:
        return optional
    if declared is float:
        return _is_number(value)
    if declared is tuple and isinstance(value, tuple):
        # The default says what is in it; where it is empty, numbers are.
        default = dict(flatten(base.get_config()))[path]
        texts = path in base.TEXTS or (bool(default) and isinstance(default[0], str))
        return all(isinstance(v, str) if texts else _is_number(v) for v in value)
    return isinstance(value, declared) and (
        declared is bool or not isinstance(value, bool)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def assign(config: ConfigDict, path: str, value: Any) -> str | None:
    """Sets a key; returns what is wrong with the value, if anything."""
    if not fits(path, value):
        return f"{path}: got {value!r}, expected {expected(path)}"
    *groups, leaf = path.split(".")
    for group in groups:
        config = config[group]
    if value is not None and declared_type(path)[0] is float:
        value = float(value)
    with config.ignore_type(), config.unlocked():
        config[leaf] = value
    return None
