"""Configs: found by name, overridden from the command line, checked as a whole.

The files in `configs/` each have a table `CONFIGS` from names to functions that return
a config; a file of your own has one function `get_config()`. Every key and its type
come from `configs/base.py`; all problems are reported at once.
"""

import ast
import importlib
import importlib.resources
import importlib.util
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from qface_jax.configs import base
from qface_jax.configs.document import (
    assign,
    declared_type,
    expected,
    fits,
    flatten,
    from_dict,
    to_dict,
)
from qface_jax.errors import ConfigError

PREFIX = "--config."


def shipped() -> dict[str, Callable[[], ConfigDict]]:
    """Returns the configs that come with the package, by name."""
    found = {}
    for file in importlib.resources.files("qface_jax.configs").iterdir():
        if file.name.endswith(".py"):
            module = importlib.import_module(f"qface_jax.configs.{file.name[:-3]}")
            # base.py, the list of keys, is no experiment and has no table.
            found |= vars(module).get("CONFIGS", {})
    return dict(sorted(found.items()))


def load(name: str, overrides: list[str] | None = None) -> ConfigDict:
    """Returns the config of that name with the overrides applied, locked.

    Args:
        name: A shipped config, or the path of a `.py` file with `get_config()`.
        overrides: Words `--config.some.key=value`.

    Raises:
        ConfigError: listing every unknown key, wrong type and value out of range.
    """
    return _checked(_read(name), overrides or [], name)


def override(
    config: ConfigDict, overrides: list[str], *, eval_from: str | None = None
) -> ConfigDict:
    """Returns a run's config with overrides, and perhaps another config's eval group.

    Args:
        config: Config of a run; kept as it is.
        overrides: Words `--config.some.key=value`.
        eval_from: Name of the config whose `eval` group is taken first.

    Raises:
        ConfigError: as `load`.
    """
    changed = from_dict(to_dict(config))
    with changed.unlocked():
        if eval_from is not None:
            changed.eval = _read(eval_from).eval
        return _checked(changed, overrides, "of the run")


def _checked(config: ConfigDict, overrides: list[str], name: str) -> ConfigDict:
    """Applies the overrides and reports everything that is wrong, at once."""
    from qface_jax.settings.config_rules import value_problems

    problems = list(_structure_problems(config))
    whole = not problems
    problems += filter(None, (_override(config, word) for word in overrides))
    if whole:
        problems += value_problems(config)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"config {name}: {len(problems)} problem(s)\n{lines}")
    return config.lock()


def _read(name: str) -> ConfigDict:
    if not name.endswith(".py"):
        known = shipped()
        if name in known:
            return known[name]()
        raise ConfigError(
            f"config {name}: unknown; there are: {', '.join(known)}; or give the path "
            "of a .py file with get_config()"
        )
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"config {name}: no such file")
    spec = importlib.util.spec_from_file_location(f"qface_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    _run_user_code(name, lambda: spec.loader.exec_module(module))
    if "get_config" not in vars(module):
        raise ConfigError(f"config {name}: has no function get_config()")
    config = _run_user_code(name, module.get_config)
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"config {name}: get_config() returned no ConfigDict")
    return config


def _run_user_code(name: str, code: Callable[[], Any]) -> Any:
    """Calls what a user wrote; any fault in it is theirs to mend, with its place."""
    try:
        return code()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"config {name}: {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno})"
        ) from error


def _structure_problems(config: ConfigDict) -> Iterator[str]:
    """Keys that base does not have, lacks, or holds with another type."""
    known = dict(flatten(base.get_config()))
    given = dict(flatten(config))
    for path, value in given.items():
        if path not in known:
            yield f"{path}: unknown key{_similar(path, known)}"
        elif not fits(path, value):
            yield f"{path}: got {value!r}, expected {expected(path)}"
    for path in known:
        if path not in given:
            yield f"{path}: missing key"


def _similar(path: str, known: dict[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(path, known, n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _parse(text: str, declared: type) -> Any:
    """The value of an override's text; the text itself where the key is a text."""
    if declared is str:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if declared is tuple and not isinstance(value, tuple):
        value = tuple(value) if isinstance(value, list) else (value,)
    return value


def _override(config: ConfigDict, word: str) -> str | None:
    """Applies `--config.key=value`; returns what is wrong with it, if anything."""
    path, equals, text = word.removeprefix(PREFIX).partition("=")
    known = dict(flatten(base.get_config()))
    if not word.startswith(PREFIX) or not equals:
        return f"{word}: expected {PREFIX}key=value"
    if path not in known:
        return f"{path}: unknown key{_similar(path, known)}"
    return assign(config, path, _parse(text, declared_type(path)[0]))
