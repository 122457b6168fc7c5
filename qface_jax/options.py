"""Options: one declaration holds a config key's default, type, range and meaning.

`configs/base.py` puts the options of the whole program together. What is named in a
table (`qface_jax.tables`) declares its own beside its code.
"""

import itertools
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ml_collections import ConfigDict


# Steps, sizes and counts are int32 on the devices; no float of a config comes near it.
LIMIT = 2**31
_SHOWN = 60  # characters of a value in a message


class Rule(NamedTuple):
    """What the values of an option must fulfil.

    Attributes:
        holds: value -> bool; it is not asked about None.
        text: How a message goes on after "got VALUE, ", as in "must be > 0".
    """

    holds: Callable[[Any], bool]
    text: str


class Option(NamedTuple):
    """One key of a config.

    Attributes:
        default: Its value where nothing else is said; its type is the key's type.
        rule: Range of the values; None: any value of the type.
        text: What the key means, with its unit.
        kind: Type of the value where the default is None, which is then allowed too;
            type of the elements where the default is a tuple, float or str.
    """

    default: Any
    rule: Rule | None
    text: str
    kind: type | None = None

    @property
    def type(self) -> type:
        """Type of the value; None may be allowed besides."""
        return self.kind if self.default is None else type(self.default)

    @property
    def expected(self) -> str:
        """The type in words, for messages."""
        return self.type.__name__ + (" or None" if self.default is None else "")

    def wrong_type(self, value: Any) -> str | None:
        """Returns what a message says of a value that is of another type; else None.

        An integer beyond 2^31 is of none: nothing could compute with it.
        """
        if not self._fits(value):
            return f"got {shown(value)}, expected {self.expected}"
        elements = value if isinstance(value, tuple) else (value,)
        if any(isinstance(v, int) and not -LIMIT < v < LIMIT for v in elements):
            return f"got {shown(value)}, must be within +-2^31"
        return None

    def wrong_value(self, value: Any) -> str | None:
        """Returns what a message says of a value that is out of range; else None.

        Besides the option's own rule, a number must be finite and within 2^31, and a
        text must be one that a file name could be: no control characters.

        Args:
            value: Of this option's type.
        """
        if value is None:
            return None
        elements = value if isinstance(value, tuple) else (value,)
        if not all(map(_is_plain, elements)):
            return f"got {shown(value)}, must be without control characters"
        if self.rule is not None and not self.rule.holds(value):
            return f"got {shown(value)}, {self.rule.text}"
        if any(_is_number(v) and not -LIMIT < v < LIMIT for v in elements):
            return f"got {shown(value)}, must be finite, within +-2^31"
        return None

    def _fits(self, value: Any) -> bool:
        if value is None:
            return self.default is None
        if self.type is float:
            return _is_number(value)
        if self.type is tuple:
            return isinstance(value, tuple) and all(map(self._fits_element, value))
        return isinstance(value, self.type) and (
            self.type is bool or not isinstance(value, bool)
        )

    def _fits_element(self, value: Any) -> bool:
        kind = self.kind or (type(self.default[0]) if self.default else float)
        return isinstance(value, str) if kind is str else _is_number(value)


Group = Mapping[str, "Option | Group"]


def shown(value: Any) -> str:
    """Returns a value for a message, in a few words, however large or deep it is.

    >>> shown("a\\0b"), shown({"a": 1}), shown("x" * 1000)[-22:]
    ("'a\\\\x00b'", 'a group of 1', '... (1,002 characters)')
    """
    if isinstance(value, dict):
        return f"a group of {len(value):,}"
    if isinstance(value, list | tuple) and any(
        isinstance(part, list | tuple | dict) for part in value
    ):
        return f"a nested list of {len(value):,}"
    try:
        text = repr(value)
    except ValueError:  # of an integer of more than 4,300 digits
        return f"{type(value).__name__} that is too long to show"
    if len(text) <= 2 * _SHOWN:
        return text
    return f"{text[:_SHOWN]}... ({len(text):,} characters)"


def _is_plain(value: Any) -> bool:
    """Whether a text could be a file name: encodable, without control characters."""
    if not isinstance(value, str):
        return True
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return not re.search(r"[\x00-\x1f\x7f-\x9f]", value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def defaults(group: Group) -> "ConfigDict":
    """Returns the config with the default of every option of a group."""
    # Declaring an option must not cost the import.
    from ml_collections import ConfigDict, config_dict

    config = ConfigDict()
    for name, entry in group.items():
        if isinstance(entry, Option):
            unset = entry.default is None
            config[name] = (
                config_dict.placeholder(entry.type) if unset else entry.default
            )
        else:
            config[name] = defaults(entry)
    return config


def flatten(group: Group, prefix: str = "") -> dict[str, Option]:
    """Returns dotted path -> option, in the order of the declaration."""
    flat: dict[str, Option] = {}
    for name, entry in group.items():
        if isinstance(entry, Option):
            flat[f"{prefix}{name}"] = entry
        else:
            flat |= flatten(entry, f"{prefix}{name}.")
    return flat


def one_of(*names: str) -> Rule:
    """Returns the rule that a value is one of some names."""
    few = len(names) <= 2
    listed = " or ".join(names) if few else f"one of {', '.join(sorted(names))}"
    return Rule(lambda value: value in names, f"must be {listed}")


POSITIVE = Rule(lambda v: 0 < v < math.inf, "must be > 0 and finite")
FINITE = Rule(math.isfinite, "must be finite")
NOT_NEGATIVE = Rule(lambda v: 0 <= v < math.inf, "must be >= 0 and finite")
AT_LEAST_TWO = Rule(lambda v: v >= 2, "must be >= 2")
SEED = Rule(lambda v: 0 <= v < 2**31, "must be within 0 .. 2^31 - 1")
RADIANS = Rule(lambda v: 0 <= v < math.pi, "must be within [0, pi)")
DEGREES = Rule(lambda v: 0 <= v <= 180, "must be within 0 .. 180")
SHARE = Rule(lambda v: 0 <= v <= 1, "must be within [0, 1]")
BELOW_ONE = Rule(lambda v: 0 <= v < 1, "must be within [0, 1)")
INSIDE_ZERO_ONE = Rule(lambda v: 0 < v < 1, "must be within (0, 1)")
SHARES = Rule(
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
    "must be (low, high) within (0, 1]",
)
ASPECTS = Rule(
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] < math.inf,
    "must be (low, high), both > 0",
)
FACTORS = Rule(
    lambda v: len(v) == 2 and 0 <= v[0] <= v[1] < math.inf,
    "must be (low, high), both >= 0 and finite",
)
SIGMAS = Rule(
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 28,
    "must be (low, high) in px within (0, 28]",
)
SIDES = Rule(
    lambda v: len(v) > 0 and all(isinstance(r, int) and 1 <= r <= 112 for r in v),
    "must be sides in px within 1..112",
)
JPEG_QUALITIES = Rule(
    lambda v: len(v) == 2 and 1 <= v[0] <= v[1] <= 100,
    "must be (low, high) within 1..100",
)
COLOURS = Rule(
    lambda v: len(v) == 3 and all(math.isfinite(x) for x in v),
    "must be three finite numbers: R, G, B",
)
POSITIVE_COLOURS = Rule(
    lambda v: COLOURS.holds(v) and all(x > 0 for x in v),
    "must be three finite numbers > 0: R, G, B",
)
INCREASING = Rule(
    lambda v: all(a < b for a, b in itertools.pairwise(v)),
    "must increase",
)
