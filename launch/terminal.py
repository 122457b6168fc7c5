"""What reaches the terminal: names from outside may hold what acts on it."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from qface_jax.errors import printable

_KEPT = "\n\t\r"  # of a message, and of a bar of progress


class Shown:
    """A stream of text that shows control characters, and bytes that are no text."""

    def __init__(self, stream: TextIO):
        """Takes the stream that is written to."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text; returns its length."""
        self._stream.write(printable(text, keep=_KEPT))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Record(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802 (the name of logging)
        return printable(super().getMessage(), keep=_KEPT)


@contextlib.contextmanager
def harmless() -> Iterator[None]:
    """Within it, what is printed and logged does not act on the terminal."""
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_Record)
    try:
        with contextlib.redirect_stdout(Shown(sys.stdout)):
            yield
    finally:
        logging.setLogRecordFactory(factory)
