"""Keeps what Orbax logs of errors that it also raises out of what the user reads.

Each of its threads logs the same error with a traceback. Where one of many reads that
run at the same time fails, Orbax raises at once and closes its event loop; the others
then fail too, some of them after the error was explained.
"""

import functools
import logging
import sys
from typing import Any


@functools.cache
def quiet_orbax() -> None:
    """Takes effect for the rest of the process: threads may fail at any time."""
    logging.getLogger("absl").addFilter(_is_news)
    logging.getLogger("asyncio").addFilter(_is_news)
    shown = sys.unraisablehook

    def show(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError)
        if not (late and str(unraisable.exc_value) == "Event loop is closed"):
            shown(unraisable)

    sys.unraisablehook = show


def _is_news(record: logging.LogRecord) -> bool:
    if record.name == "asyncio":
        return "Task exception was never retrieved" not in record.getMessage()
    return record.levelno < logging.ERROR or "orbax" not in record.pathname
