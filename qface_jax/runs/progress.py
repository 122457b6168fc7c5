"""A progress line with rate and time left, for whatever takes more than seconds.

It is tqdm's, which knows terminals and notebooks. Here is what tqdm lacks: where the
output is a file, a line of its own now and then; of several processes, one that speaks.
"""

import io
import shutil
import sys
from typing import TextIO

from tqdm import std
from tqdm.auto import tqdm

from qface_jax.processes import hosts

# Seconds between two lines: a terminal's line is overwritten, a file's line stays.
_TERMINAL_INTERVAL = 1.0
_PLAIN_INTERVAL = 10.0


class Progress(tqdm):
    """Counts units of work and shows how far the work is and how fast it goes.

    Of the processes of a run only the first writes lines. Use as a context manager;
    leaving it writes the last line, whose rate is that of the whole work.
    """

    monitor_interval = 0  # no thread of tqdm's: a program that forks has enough of them

    def __init__(
        self,
        total: int | None,
        unit: str,
        label: str,
        *,
        start: int = 0,
        stream: TextIO | None = None,
    ):
        """Shows the first line.

        Args:
            total: Units of the whole work; None where it is not known.
            unit: Plural of what is counted, such as "images".
            label: What is being done; begins every line.
            start: Units done before (a resumed run); they count towards the total, not
                towards the rate.
            stream: Where the lines go; standard error by default.
        """
        stream = sys.stderr if stream is None else stream
        # A notebook's stream is no terminal, but tqdm draws a widget there.
        in_notebook = tqdm.status_printer is not std.tqdm.status_printer
        in_place = stream.isatty() or in_notebook
        line = f"{{n:,}} {unit} in {{elapsed}}, {{rate_noinv_fmt}}"
        if total is not None:
            line = (
                f"{{n:,}}/{{total:,}} {unit} ({{percentage:.0f}}%) in {{elapsed}}, "
                "{rate_noinv_fmt}, {remaining} left"
            )
        # tqdm shows nothing in a terminal that does not tell its size.
        columns = shutil.get_terminal_size().columns
        bar = "{bar} " if in_place else ""
        super().__init__(
            desc=label,
            total=total,
            unit=f" {unit}",
            initial=start,
            file=stream if in_place and hosts.first() else _Lines(stream),
            mininterval=_TERMINAL_INTERVAL if in_place else _PLAIN_INTERVAL,
            miniters=1,
            ncols=columns - 1 if stream.isatty() else None,
            nrows=20,
            bar_format=f"{{desc}}: {bar}{line}{{postfix}}",
        )

    def update(self, n: int, note: str = "") -> None:
        """Adds `n` units; `note` is shown at the end of the line."""
        self.set_postfix_str(note, refresh=False)
        super().update(n)

    def skip(self, n: int) -> None:
        """Adds `n` units that were done before, as `start` does."""
        self.n += n
        self.initial += n
        self.last_print_n += n

    def rate(self) -> float:
        """Returns units per second since the beginning (0 before any time passed)."""
        state = self.format_dict
        done, seconds = state["n"] - state["initial"], state["elapsed"]
        return done / seconds if seconds > 0 else 0.0


class _Lines(io.TextIOBase):
    """Takes tqdm's line, which is to overwrite the one before, as a line of its own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the line, if any, where this process is the one that speaks."""
        line = " ".join(text.split())
        if line and hosts.first():
            self._stream.write(f"{line}\n")
            self._stream.flush()
        return len(text)
