"""Keeps what Orbax says and leaves behind while it fails out of what the user reads.

Where one of many reads that run at the same time fails, Orbax raises at once and closes
its event loop. The others then fail too, each with lines of its own, some of them after
the error was explained and the program has gone on.
"""

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Hides the log lines of a load that fails; the exception is raised as it is."""
    _leave_out_late_failures()
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@functools.cache
def _leave_out_late_failures() -> None:
    """For the rest of the process: nobody knows when the last read has failed."""
    logging.getLogger("asyncio").addFilter(_is_told)
    shown = sys.unraisablehook

    def show(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError)
        if not (late and str(unraisable.exc_value) == "Event loop is closed"):
            shown(unraisable)

    sys.unraisablehook = show


def _is_told(record: logging.LogRecord) -> bool:
    return "Task exception was never retrieved" not in record.getMessage()
