"""A progress line with rate and time left, for whatever takes more than seconds."""

import collections
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from qface_jax.processes import hosts

# Seconds between two lines: a terminal's line is overwritten, a file's line stays.
_TERMINAL_INTERVAL = 1.0
_PLAIN_INTERVAL = 10.0
# Rate and time left look back this far, so a slow start (compilation) is forgotten.
_WINDOW_SECONDS = 30.0


class Progress:
    """Counts units of work and says, now and then, how far and how fast.

    Of the processes of a run only the first writes lines.

    Use as a context manager; leaving it writes a summary line. An exception inside
    leaves the summary as "stopped".

    Args:
        total: units of the whole work, or None when it is not known.
        unit: plural of what is counted, such as "images".
        label: what is being done; begins every line.
        start: units done before (a resumed run); they count towards the total, not
            towards the rate.
        stream: where the lines go; standard error by default.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        label: str,
        *,
        start: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._unit, self._label = total, unit, label
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._interval = _TERMINAL_INTERVAL if self._terminal else _PLAIN_INTERVAL
        self._start = self._done = start
        self._begun = self._written = clock()
        self._recent = collections.deque([(self._begun, start)])
        self._width = 0
        self._closed = False

    def update(self, n: int, note: str = "") -> None:
        """Adds `n` units; `note` is shown at the end of the line."""
        self._done += n
        now = self._clock()
        if now - self._written < self._interval:
            return
        self._recent.append((now, self._done))
        while len(self._recent) > 2 and self._recent[1][0] < now - _WINDOW_SECONDS:
            self._recent.popleft()
        self._written = now
        self._show(self._line(note))

    def rate(self) -> float:
        """Returns units per second since the beginning (0 before any time passed)."""
        seconds = self._clock() - self._begun
        return (self._done - self._start) / seconds if seconds > 0 else 0.0

    def close(self, note: str = "", *, stopped: bool = False) -> None:
        """Writes the summary line, once."""
        if self._closed:
            return
        self._closed = True
        seconds = self._clock() - self._begun
        count = f"{self._done:,} {self._unit}"
        if stopped and self._total is not None:
            count = f"stopped after {self._done:,} of {self._total:,} {self._unit}"
        parts = [count, f"in {duration(seconds)}", f"({self._speed(self.rate())})"]
        line = f"{self._label}: {' '.join(parts)}" + (f", {note}" if note else "")
        self._show(line)
        if self._terminal:
            self._write("\n")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close(stopped=kind is not None)

    def _line(self, note: str) -> str:
        (then, before), (now, done) = self._recent[0], self._recent[-1]
        rate = (done - before) / (now - then) if now > then else 0.0
        if self._total is None:
            parts = [f"{done:,} {self._unit}"]
        else:
            share = done / self._total if self._total else 1.0
            parts = [f"{done:,}/{self._total:,} {self._unit} ({share:.0%})"]
        parts.append(self._speed(rate))
        if self._total is not None and rate > 0:
            left = max(self._total - done, 0) / rate
            parts.append(f"{duration(left)} left")
        if note:
            parts.append(note)
        return f"{self._label}: " + ", ".join(parts)

    def _speed(self, rate: float) -> str:
        digits = 0 if rate >= 100 else 1 if rate >= 10 else 2
        return f"{rate:,.{digits}f} {self._unit}/s"

    def _show(self, line: str) -> None:
        if not self._terminal:
            self._write(line + "\n")
            return
        # A wrapped line cannot be overwritten by a carriage return.
        line = line[: shutil.get_terminal_size().columns - 1]
        self._write("\r" + line.ljust(self._width))
        self._width = len(line)

    def _write(self, text: str) -> None:
        if not hosts.first():
            return
        self._stream.write(text)
        self._stream.flush()


def duration(seconds: float) -> str:
    """Returns a time span for reading.

    >>> duration(4.2), duration(75), duration(7384)
    ('4.2 s', '1 min 15 s', '2 h 03 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
