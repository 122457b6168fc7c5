"""Which of the run's processes this one is; without JAX, so that any module may ask.

`qface_jax.launch.cluster` sets it once, before anything else starts.
"""

import sys
from typing import NamedTuple

from qface_jax.errors import printable

# The exit status if another process did not join or was lost (EX_TEMPFAIL): the same
# command, started again on all of them, goes on.
EXIT_LOST = 75


class Place(NamedTuple):
    """The place of a process among those of the run.

    Attributes:
        index: Number of the process, 0 .. count - 1; process 0 writes for all.
        count: Number of processes.
        names: Host name of each process.
    """

    index: int = 0
    count: int = 1
    names: tuple[str, ...] = ("",)


_place = Place()


def place() -> Place:
    """Returns this process's place; that of the only one before `settle`."""
    return _place


def settle(place: Place) -> None:
    """Sets the place of this process."""
    global _place
    _place = place


def first() -> bool:
    """Returns whether this process is the one that prints and writes for all."""
    return _place.index == 0


def named(index: int) -> str:
    """Returns a process with its host's name, for messages."""
    return f"process {index} ({_place.names[index]})"


def prefix() -> str:
    """Returns the start of a line that only this process prints; '' if it is alone."""
    if _place.count == 1:
        return ""
    return f"[process {_place.index} {_place.names[_place.index]}] "


def say(text: str) -> None:
    """Prints a message on standard error, once for all processes."""
    if first():
        print(printable(text, keep="\n\t"), file=sys.stderr, flush=True)
