"""Memory that is free again goes back to the system."""

import ctypes
import functools
import gc
from collections.abc import Callable


def give_back() -> None:
    """Frees what nobody holds, and hands it back where the C library keeps it.

    An evaluation and a checkpoint allocate much, on many threads. What of it is part of
    a cycle Python leaves for many evaluations, since few objects hold the many bytes.
    GNU's library keeps what is freed for each thread, in pieces that the next one does
    not quite fit into. So a run of days would hold more and more.
    """
    gc.collect()
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], int]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return lambda pad: 0
