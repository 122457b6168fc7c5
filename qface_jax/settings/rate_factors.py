"""Groups of parameters with a learning rate of their own: `optim.rate_factors`."""

import re
from typing import NamedTuple

from qface_jax.errors import ConfigError


class RateFactor(NamedTuple):
    """Parameters whose learning rate is multiplied.

    Attributes:
        pattern: Regular expression; a parameter belongs to the group if the beginning
            of its path matches, as in "backbone/layer[12]_".
        factor: On the learning rate, >= 0; 0: they stay as they are.
    """

    pattern: str
    factor: float


def parse(words: tuple[str, ...]) -> list[RateFactor]:
    """Returns the groups of `optim.rate_factors`.

    Raises:
        ConfigError: a word is not PATTERN=FACTOR.
    """
    groups = []
    for word in words:
        pattern, equals, text = word.rpartition("=")
        try:
            re.compile(pattern)
            factor = float(text)
        except (re.error, ValueError):
            factor = -1.0
        if not equals or not pattern or not 0.0 <= factor < float("inf"):
            raise ConfigError(
                f"optim.rate_factors: got {word!r}, expected PATTERN=FACTOR, a regular "
                "expression of parameters' paths and a number >= 0, as in "
                "'backbone/layer1_=0.1'"
            )
        groups.append(RateFactor(pattern, factor))
    return groups
