"""Memory that is free again goes back to the system."""

import ctypes
import functools
import gc
from collections.abc import Callable


def give_back() -> None:
    """Frees what nobody holds, and hands it back where the C library keeps it.

    An evaluation and a checkpoint allocate much, on many threads. What of it is part of
    a cycle waits for Python's collector, and GNU's library keeps what is freed for each
    thread. This does not bound what a run holds.
    """
    gc.collect()
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], int]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return lambda pad: 0
