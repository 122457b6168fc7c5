"""What `config.json` of a run holds besides its config: type and range of each field.

It is read within bounds and checked as a whole before anything is built from it.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qface_jax.errors import ConfigError
from qface_jax.options import shown
from qface_jax.storage.files import read_bytes

CODE_FOLDERS = "code_folders"  # in which what it names as module:object was found
IMPORTED = "imported"  # in config.json of a model that `qface import` wrote
MOST_BYTES = 2**26  # the graph of an imported model takes some million
MOST_CLASSES = 2**31 - 1  # labels are int32
_DEEPEST = 32  # levels; a config has five
_MEND = "undo the edit, or put back a copy of the file"


class _Field(NamedTuple):
    """One field.

    Attributes:
        holds: Value -> whether it is of the right type and range.
        expected: That in words.
        needed: Whether every file has it.
    """

    holds: Callable[[Any], bool]
    expected: str
    needed: bool = False


def _is_count(value: Any, least: int = 0, most: int = 2**53) -> bool:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and least <= value <= most
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_data(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    images = value.get("images")
    drawn = value.get("images_per_epoch", images)
    return _is_count(images) and _is_count(drawn)


_COUNT = f"a whole number from 1 to {MOST_CLASSES:,}"
_FIELDS = {
    "config": _Field(lambda v: isinstance(v, dict), "a group", needed=True),
    "num_classes": _Field(lambda v: _is_count(v, 1, MOST_CLASSES), _COUNT, needed=True),
    "data": _Field(
        _is_data, "a group whose images, a whole number, is >= 0", needed=True
    ),
    "init_from": _Field(_is_text_or_none, "a text or null", needed=True),
    "config_digest": _Field(_is_text, "a text"),
    CODE_FOLDERS: _Field(_are_texts, "a list of texts"),
    "color_order": _Field(lambda v: v == "RGB", "'RGB'"),
    "pixel_scale": _Field(_is_text, "a text"),
    "versions": _Field(
        lambda v: isinstance(v, dict) and all(map(_is_text, v.values())),
        "a group of texts",
    ),
    "commit": _Field(_is_text_or_none, "a text or null"),
    "started": _Field(_is_text, "a text"),
}
_OF_IMPORTED = _FIELDS | {
    IMPORTED: _Field(lambda v: isinstance(v, dict), "a group", needed=True),
    "num_classes": _Field(
        lambda v: _is_count(v, 0, MOST_CLASSES),
        f"a whole number from 0 to {MOST_CLASSES:,}",
        needed=True,
    ),
    "data": _Field(lambda v: v is None, "null", needed=True),
}


def read(file: Path) -> dict[str, Any]:
    """Returns the JSON object that a file holds.

    Raises:
        ConfigError: it holds none, or is too large for one.
    """
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        content = json.loads(read_bytes(file))
        if _is_deeper(content, _DEEPEST):
            raise RecursionError
    except RecursionError:
        raise ConfigError(
            f"{file}: is no run's config (nested too deeply); {_MEND}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file}: is no run's config ({error}); {_MEND}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file}: is no run's config (got {shown(content)}, expected a group); "
            f"{_MEND}"
        )
    return content


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and groups stand in each other on more than so many levels."""
    here = [value]
    for _ in range(levels + 1):
        inner = [one for one in here if isinstance(one, dict | list)]
        here = [
            part
            for one in inner
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not here:
            return False
    return any(isinstance(one, dict | list) for one in here)


def check(file: Path, content: dict[str, Any]) -> None:
    """Raises ConfigError that lists every field which is missing or wrong.

    Args:
        file: For the message.
        content: Of the file, of a format that this version reads.
    """
    problems = list(_problems(content))
    if problems:
        raise ConfigError(f"{file}: is no run's config: {'; '.join(problems)}; {_MEND}")


def _problems(content: dict[str, Any]) -> Iterator[str]:
    fields = _OF_IMPORTED if IMPORTED in content else _FIELDS
    for name, field in fields.items():
        if name not in content:
            if field.needed:
                yield f"{name}: is missing"
        elif not field.holds(content[name]):
            yield f"{name}: got {shown(content[name])}, expected {field.expected}"
