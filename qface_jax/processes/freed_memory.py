"""Memory that is free again goes back to the system."""

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Hands freed memory back, where the C library keeps it: that of GNU does.

    An evaluation and a checkpoint allocate much, on many threads, and free it; the
    library keeps it for each thread, in pieces that the next one does not quite fit
    into. So a run of days would hold more and more.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], int]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return lambda pad: 0
