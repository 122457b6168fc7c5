"""Configs: found by name, overridden from the command line, checked as a whole.

The files in `configs/` each have a table `CONFIGS` from names to functions that return
a config; a file of your own has one function `get_config()`, and `module:function`
names one of yours that can be imported. Every key and its range come from
`configs/base.py`; all problems are reported at once.
"""

import ast
import difflib
import importlib
import importlib.resources
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from qface_jax import options, tables
from qface_jax.configs import document
from qface_jax.configs.base import get_config, keys
from qface_jax.errors import ConfigError
from qface_jax.options import Option, shown
from qface_jax.settings.rules import value_problems

PREFIX = "--config."
_OWN = f"{PREFIX}{document.OWN}"


def shipped() -> dict[str, Callable[[], ConfigDict]]:
    """Returns the configs that come with the package, by name."""
    configs = {}
    for file in importlib.resources.files("qface_jax.configs").iterdir():
        if file.name.endswith(".py"):
            module = importlib.import_module(f"qface_jax.configs.{file.name[:-3]}")
            # base.py, the list of keys, is no experiment and has no table.
            configs |= vars(module).get("CONFIGS", {})
    return dict(sorted(configs.items()))


def listing() -> str:
    """Returns the shipped configs, a line each: its name and what it is for."""
    configs = {name: make() for name, make in shipped().items()}
    width = max(map(len, configs))
    return "\n".join(f"{name:<{width}}  {_summary(c)}" for name, c in configs.items())


def _summary(config: ConfigDict) -> str:
    usual = dict(document.flatten(get_config()))
    changed = [p for p, value in document.flatten(config) if usual[p] != value]
    sets = ", ".join(config.eval.sets)
    if all(path.startswith("eval.") for path in changed):
        return f"evaluation on {sets}, protocol {config.eval.protocol}"
    margin = (
        f", {config.loss.margin}"
        if "loss" in tables.OBJECTIVES[config.objective].reads
        else ""
    )
    amount = (
        f"{config.epochs:g} epochs"
        if config.epochs
        else (f"{config.total_steps:,} steps")
    )
    return (
        f"{config.objective}{margin}, {config.model.backbone}, batch "
        f"{config.data.batch_size}, {amount}"
    )


def load(name: str, overrides: list[str] | None = None) -> ConfigDict:
    """Returns the config of that name with the overrides applied, locked.

    Args:
        name: A shipped config, the path of a `.py` file with `get_config()`, or
            `module:function`; what it names as `module:object` is trusted.
        overrides: Words `--config.some.key=value`.

    Raises:
        ConfigError: listing every unknown key, wrong type and value out of range.
    """
    config = _read(name)
    return _checked(config, overrides or [], name, trusted=True)


def override(
    config: ConfigDict, overrides: list[str], *, eval_from: str | None = None
) -> ConfigDict:
    """Returns a run's config with overrides, and perhaps another config's eval group.

    Args:
        config: Config of a run; kept as it is. What it names as `module:object` is
            trusted only where an override names it again.
        overrides: Words `--config.some.key=value`.
        eval_from: Name of the config whose `eval` group is taken first.

    Raises:
        ConfigError: as `load`.
    """
    changed = document.copy(config)
    if eval_from is not None:
        other = _read(eval_from)
        for _, name in document.external_names(other):
            tables.trust(name)
        changed.eval = other.eval
    return _checked(changed, overrides, "of the run", trusted=False)


def _checked(
    config: ConfigDict, overrides: list[str], name: str, *, trusted: bool
) -> ConfigDict:
    """Applies the overrides and reports everything that is wrong, at once."""
    known = options.flatten(keys())
    problems = list(_structure_problems(config, known))
    complete = not problems
    of_own_entries = [word for word in overrides if word.startswith(_OWN)]
    for word in overrides:
        if word not in of_own_entries:
            problems += _override(config, word, known)
    if complete:
        for _, entry in document.external_names(config):
            if trusted or any(_stands_in(word, entry) for word in overrides):
                tables.trust(entry)
        # What is named decides which keys there are besides those of `base`.
        known = document.schema(config)
        _complete_own(config, known)
        problems += _structure_problems(config, known, own=True)
        for word in of_own_entries:
            problems += _override(config, word, known)
        problems += value_problems(config, known)
        if config.epochs is not None and _overridden("total_steps", overrides):
            problems.append(
                f"total_steps: has no effect while epochs is {config.epochs:g}; set "
                "epochs instead, or epochs=None and optim.*_steps too"
            )
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"config {name}: {len(problems)} problem(s)\n{lines}")
    return config.lock()


def _overridden(path: str, overrides: list[str]) -> bool:
    words = (word.removeprefix(PREFIX) for word in overrides)
    return any(word.partition("=")[0] == path for word in words)


def _stands_in(word: str, entry: str) -> bool:
    """Whether an override names an entry; not one whose name only contains it."""
    return bool(re.search(rf"(?<![\w./~-]){re.escape(entry)}(?!\w)", word))


def _complete_own(config: ConfigDict, known: dict[str, Option]) -> None:
    """Gives the options of a user's own entries their defaults where they are not set.

    A tuple is no value of a key that is a number: such faults are reported later.
    """
    given = dict(document.flatten(config))
    for path, option in known.items():
        if path.startswith(document.OWN) and path not in given:
            document.assign(config, path, option.default, option)


def _read(name: str) -> ConfigDict:
    configs = shipped()
    if name in configs:
        return configs[name]()
    if not name.endswith(".py") and not tables.is_external(name):
        close = difflib.get_close_matches(name, configs, n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise ConfigError(
            f"config {name}: unknown; {meant}qface train --config=list says what there "
            "is; or give the path of a .py file with get_config(), or module:function"
        )
    function = name if tables.is_external(name) else f"{name}:get_config"
    tables.trust(function)
    config = _run_user_code(name, lambda: tables.CONFIGS[function]())
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"config {name}: {function.rpartition(':')[2]}() returned "
            f"{type(config).__name__}, expected a ConfigDict, as "
            "qface_jax.configs.base.get_config() gives one"
        )
    return config


def _run_user_code(name: str, code: Callable[[], Any]) -> Any:
    """Calls what a user wrote; any fault in it is theirs to mend, with its place."""
    try:
        return code()
    except ConfigError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"config {name}: {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno})"
        ) from error


def _structure_problems(
    config: ConfigDict, known: dict[str, Option], *, own: bool = False
) -> Iterator[str]:
    """Keys that are not known, are missing, or hold another type.

    Args:
        config: The config.
        known: Option of each key.
        own: Look at the options of a user's own entries, and at nothing else.
    """
    given = dict(document.flatten(config))
    for path, value in given.items():
        if path.startswith(document.OWN) != own:
            continue
        if path not in known:
            yield f"{path}: unknown key{_similar(path, known)}"
        elif problem := known[path].wrong_type(value):
            yield f"{path}: {problem}"
    for path in known:
        if path not in given and not own:
            yield f"{path}: missing key"


def _similar(path: str, known: dict[str, Option]) -> str:
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _parse(text: str, option: Option) -> Any:
    """The value of an override's text; the text itself where the key is a text."""
    if option.type is str:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = text  # Python's parser itself gives up on a deep nesting.
    if option.type is tuple and not isinstance(value, tuple):
        value = tuple(value) if isinstance(value, list) else (value,)
    return value


def _override(config: ConfigDict, word: str, known: dict[str, Option]) -> list[str]:
    """Applies `--config.key=value`; returns what is wrong with it, if anything."""
    path, equals, text = word.removeprefix(PREFIX).partition("=")
    if not word.startswith(PREFIX) or not equals:
        return [f"{shown(word)}: expected {PREFIX}key=value"]
    if path not in known:
        written = path if path.isprintable() and len(path) < 100 else shown(path)
        return [f"{written}: unknown key{_similar(path, known)}"]
    option = known[path]
    problem = document.assign(config, path, _parse(text, option), option)
    return [] if problem is None else [problem]
