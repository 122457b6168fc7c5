"""Which of the run's processes this one is; no JAX, so that everybody may ask.

`qface_jax.launch.cluster` says it once, before anything else starts.
"""

import sys
from typing import NamedTuple

# The exit status where another process did not join or fell out (EX_TEMPFAIL): the
# same command, started again on all of them, goes on.
EXIT_LOST = 75


class Place(NamedTuple):
    """A process among those of the run.

    Attributes:
        index: 0 .. count - 1; process 0 writes for all.
        count: Processes of the run.
        names: Host name of each process.
    """

    index: int = 0
    count: int = 1
    names: tuple[str, ...] = ("",)


_place = Place()


def here() -> Place:
    """Returns this process's place; the only one where none was told."""
    return _place


def settle(place: Place) -> None:
    """Tells this process its place."""
    global _place
    _place = place


def first() -> bool:
    """Whether this process is the one that speaks and writes for all."""
    return _place.index == 0


def named(index: int) -> str:
    """Returns a process with its host's name, for messages."""
    return f"process {index} ({_place.names[index]})"


def prefix() -> str:
    """Returns what begins a line that only this process says; '' where it is alone."""
    if _place.count == 1:
        return ""
    return f"[process {_place.index} {_place.names[_place.index]}] "


def say(text: str) -> None:
    """Prints a line of progress, once for all processes, apart from the answers."""
    if first():
        print(text, file=sys.stderr, flush=True)
