"""A config as a document: saved, read again, compared, and set key by key."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from qface_jax import options, tables
from qface_jax.configs import base
from qface_jax.errors import ConfigError
from qface_jax.options import Option

OWN = "own."  # beginning of the paths of options of a user's own entries
_LONG = 200  # characters: paths are shorter, the packed graph of a model is not
_SHOWN = 60  # characters of a longer value
_LARGEST = 2**31  # of whole numbers: steps and labels are int32
_PROBLEMS = 20  # of a saved config that a message lists


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every leaf, in the order of the config."""
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def split_benchmark(entry: str, default: str) -> tuple[str, str]:
    """Returns the protocol and the set that an entry of `eval.sets` names.

    >>> split_benchmark("tinyface=faces", "verification")
    ('tinyface', 'faces')
    >>> split_benchmark("pairs.txt::a=b", "verification")
    ('verification', 'pairs.txt::a=b')

    Args:
        entry: SET or PROTOCOL=SET; PROTOCOL is a word or `module:object`.
        default: protocol of an entry that names none.
    """
    name, equals, rest = entry.partition("=")
    named = name.isidentifier() or (tables.is_external(name) and "::" not in name)
    return (name, rest) if equals and named else (default, entry)


def named(config: ConfigDict, kind: str) -> tuple[str, ...]:
    """Returns the names of one kind that a config uses.

    Args:
        config: Config, locked or not.
        kind: Key of `base.OWN`.
    """
    if kind == "protocol":
        default = config.eval.protocol
        protocols = (split_benchmark(entry, default)[0] for entry in config.eval.sets)
        return tuple(dict.fromkeys((default, *protocols)))
    return {
        "margin": lambda: (config.loss.margin,),
        "objective": lambda: (config.objective,),
        "backbone": lambda: (config.model.backbone,),
        "source": lambda: (config.data.source,),
        "degradation": lambda: (config.degrade.recipe,),
        "quality_score": lambda: tuple(config.eval.quality_scores),
    }[kind]()


def external_names(config: ConfigDict) -> list[tuple[str, str]]:
    """Returns (kind, name) of every `module:object` that a config names."""
    return [
        (kind, name)
        for kind in base.OWN
        for name in named(config, kind)
        if isinstance(name, str) and tables.is_external(name)
    ]


def schema(config: ConfigDict) -> dict[str, Option]:
    """Returns dotted path -> option of every key that a config must have.

    Raises:
        ConfigError: it names a user's own entry that is not trusted or not there.
    """
    known = options.flatten(base.keys())
    for kind, name in external_names(config):
        entry = base.OWN[kind][name]
        known |= options.flatten(entry.options, f"{OWN}{kind}.")
    return known


def options_of(config: ConfigDict, kind: str, name: str) -> dict[str, Any]:
    """Returns the values of the options that an entry of a table declares, by key.

    Args:
        config: Config; its values are those of `schema`.
        kind: Key of `base.OWN`.
        name: Name of the entry.
    """
    if tables.is_external(name):
        group, declared = config.own[kind], base.OWN[kind][name].options
        return {key: group[key] for key in declared}
    places = {
        "margin": config.loss,
        "objective": config,
        "backbone": config.model,
        "source": config.data,
        "degradation": config.degrade,
        "protocol": config.eval,
        "quality_score": config.eval,
    }
    return places[kind][name].to_dict() if name in places[kind] else {}


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as what JSON can hold."""
    return json.loads(config.to_json())


def from_dict(values: Any) -> ConfigDict:
    """Returns the config that `to_dict` wrote; keys that are new have their default.

    What it names as `module:object` is not imported: the options of such entries are
    taken as they were written.

    Raises:
        ConfigError: listing every key that is not known, and every value of another
            type or out of its range.
    """
    config = base.get_config()
    problems = []
    for path, value, option in _saved(values, base.keys(), ""):
        if isinstance(option, str):
            problems.append(f"{path}: {option}")
        elif problem := assign(config, path, value, option) or _range(value, option):
            problems.append(f"{path}: {problem}" if path not in problem else problem)
    if problems:
        shown = problems[:_PROBLEMS]
        if len(problems) > _PROBLEMS:
            shown.append(f"and {len(problems) - _PROBLEMS:,} more")
        lines = "\n".join(f"  {problem}" for problem in shown)
        raise ConfigError(f"the saved config does not fit this version\n{lines}")
    return config.lock()


def _saved(
    values: Any, group: options.Group, path: str
) -> Iterator[tuple[str, Any, Option | str]]:
    """Yields path, value and option of each saved leaf; or path, value and problem."""
    if not isinstance(values, dict):
        yield path[:-1] or "config", values, f"got {in_short(values)}, expected a group"
        return
    for key, value in values.items():
        place = f"{path}{key}"
        known = group.get(key)
        if path.startswith(OWN) and path != OWN:
            # The options of a user's own entry, which is not imported to ask for them.
            simple = key.isidentifier() and not key.startswith("__")
            parts = value if isinstance(value, list) else [value]
            if not simple or any(isinstance(part, list | dict) for part in parts):
                yield (
                    shortened(place),
                    value,
                    f"got {in_short(value)}, expected a value",
                )
                continue
            value = tuple(value) if isinstance(value, list) else value
            yield place, value, Option(value, None, "")
        elif known is None:
            yield shortened(place), value, "unknown key"
        elif isinstance(known, Option):
            yield place, tuple(value) if isinstance(value, list) else value, known
        else:
            yield from _saved(value, known, f"{place}.")


def _range(value: Any, option: Option) -> str | None:
    """What is wrong with a value of the right type; None if nothing is."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"got {in_short(value)}, must be within -2^31 .. 2^31"
    if value is None or option.rule is None or option.rule.holds(value):
        return None
    return f"got {in_short(value)}, {option.rule.text}"


def in_short(value: Any) -> str:
    """Returns what a value is, in a few words, however large or deep it is."""
    if isinstance(value, dict):
        return f"a group of {len(value):,}"
    if isinstance(value, list | tuple) and any(
        isinstance(part, list | tuple | dict) for part in value
    ):
        return f"a nested list of {len(value):,}"
    return shortened(repr(value))


def copy(config: ConfigDict) -> ConfigDict:
    """Returns an unlocked copy of a config."""
    return from_dict(to_dict(config)).unlock()


def assign(config: ConfigDict, path: str, value: Any, option: Option) -> str | None:
    """Sets a key; returns what is wrong with the value's type, if anything."""
    if not option.fits(value):
        expected = option.type.__name__ + (" or None" if option.default is None else "")
        return f"{path}: got {in_short(value)}, expected {expected}"
    *groups, leaf = path.split(".")
    for group in groups:
        config = config[group]
    if value is not None and option.type is float:
        value = float(value)
    with config.ignore_type(), config.unlocked():
        config[leaf] = value
    return None


def digest(config: ConfigDict) -> str:
    """Returns a short hash of every key and value."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Returns one line for each key whose value differs."""
    before, after = dict(flatten(old)), dict(flatten(new))
    return [
        f"{path}: was {shortened(repr(before.get(path)))}, "
        f"now {shortened(repr(after.get(path)))}"
        for path in before | after
        if before.get(path) != after.get(path)
    ]


def shortened(text: str) -> str:
    """Returns the text; of one that no line can hold its beginning, length and hash."""
    if len(text) <= _LONG:
        return text
    mark = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{text[:_SHOWN]}... ({len(text):,} characters, hash {mark})"
