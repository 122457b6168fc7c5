"""Trying again where storage fails for a moment: network file systems, busy disks."""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
# What a network file system answers while a server restarts, a lease moves or a disk is
# slow. All other errors, as of a missing file or of rights, stay as they are.
TRANSIENT = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EREMOTEIO,
        # A folder is removed while a write into it, which failed, has not ended.
        errno.ENOTEMPTY,
    }
)
_WORDS = tuple(os.strerror(number) for number in sorted(TRANSIENT))
WAITS = (0.1, 0.3, 1.0, 3.0, 10.0)  # s, before each further try
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_counts: dict[str, int] = {}


def is_transient(error: BaseException) -> bool:
    """Whether an error is one of storage that may be over in a moment.

    Libraries in C++ raise other types, with the system's words in their message.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in TRANSIENT
    return any(words in str(error) for words in _WORDS)


def retrying(
    call: Callable[[], Result],
    path: str | bytes | Path,
    *,
    before_again: Callable[[], None] | None = None,
    waits: Sequence[float] = WAITS,
) -> Result:
    """Returns what a call returns; tries again where storage fails for a moment.

    What was tried again is logged, of each path at 1, 2, 4, 8, ... times.

    Args:
        call: What reads or writes. It may be called again, so it must do all anew.
        path: What it reads or writes, for messages.
        before_again: Called before each further try, as to open a file again.
        waits: Seconds before each further try.

    Raises:
        OSError: storage still fails; says how often it was tried.
        Exception: at once, what the call raises where `is_transient` is False.
    """
    last: Exception | None = None
    for wait in (0.0, *waits):
        try:
            if last is not None:
                time.sleep(wait)
                if before_again is not None:
                    before_again()
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            _note(path, error)
            last = error
    raise OSError(
        getattr(last, "errno", None) or errno.EIO,
        f"{_reason(last)} (tried {len(waits) + 1} times in {sum(waits):.1f} s)",
        os.fsdecode(path),
    ) from last


def _reason(error: Exception | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((words for words in _WORDS if words in str(error)), str(error))


def _note(path: str | bytes | Path, error: Exception) -> None:
    name = os.fsdecode(path)
    with _lock:
        count = _counts[name] = _counts.get(name, 0) + 1
    if count & (count - 1) == 0:
        _log.warning(
            "%s: %s; trying again (failed %d times so far)",
            name, _reason(error), count,
        )  # fmt: skip
