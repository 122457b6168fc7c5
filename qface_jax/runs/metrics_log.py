"""`metrics.jsonl` as it is read: one event a line, checked, within bounds.

The file may have been cut short by a crash, or edited by hand.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qface_jax.runs.run_folder import LAST_STEP
from qface_jax.storage.files import open_to_read

MAX_LINE = 2**20  # bytes; an evaluation of many sets takes some thousand
_LONGEST_NAME = 200  # characters


class Event(NamedTuple):
    """One line of the log.

    Attributes:
        step: Updates done, 0 .. 2^31 - 1.
        time: Seconds since 1970; None where the line has none.
        values: Name -> value, finite or not.
    """

    step: int
    time: float | None
    values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the line's content."""
        time = {} if self.time is None else {"time": self.time}
        return {"step": self.step, **time, **self.values}


def event_of(line: bytes) -> Event | None:
    """Returns what a line says; None if it is no event.

    What is no number is left out of an event, and so is a number that no float holds.
    """
    if len(line) > MAX_LINE:
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None  # such as the last line of a run that was killed while writing
    if not isinstance(content, dict):
        return None
    step = content.pop("step", None)
    if isinstance(step, bool) or not isinstance(step, int):
        return None
    if not 0 <= step <= LAST_STEP:
        return None
    time = content.pop("time", None)
    values = {
        name: float(value)
        for name, value in content.items()
        if _is_number(value) and _is_name(name)
    }
    known_time = _is_number(time) and math.isfinite(time)
    return Event(step, float(time) if known_time else None, values)


def events(path: Path) -> Iterator[Event | None]:
    """Yields what each line of a log says, as `event_of`; nothing without a file."""
    if not path.is_file():
        return
    with open_to_read(path) as file:
        while line := file.readline(MAX_LINE + 1):
            whole = line.endswith(b"\n")
            yield event_of(line)
            while not whole and (rest := file.readline(MAX_LINE)):
                whole = rest.endswith(b"\n")


def last_logged_step(path: Path) -> int | None:
    """Returns the highest step of a log; None without any."""
    return max((event.step for event in events(path) if event), default=None)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= 2**1023


def _is_name(name: str) -> bool:
    """Whether it may stand in a legend: short, and text that UTF-8 can hold."""
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable()
