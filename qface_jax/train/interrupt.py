"""Ctrl-C and SIGTERM: the step in hand is finished and saved, then the run ends."""

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from qface_jax.processes import hosts

_STDERR = 2  # its file descriptor


class Interrupted(Exception):  # noqa: N818 (an event, not an error)
    """The run was asked to end; its state is saved.

    Attributes:
        signal_number: Which signal asked.
        step: Updates done, all of them saved.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped at step {step}")
        self.signal_number = signal_number
        self.step = step


class Interrupt:
    """Notes the first SIGINT or SIGTERM; a second SIGINT ends the program at once.

    Until `listen` is called SIGINT ends it at once too, even in the middle of a
    compilation, during which Python hears no signal: no step is lost by it.

    All processes of a run learn of a signal to any of them at the same check, so that
    all finish the same step and save it.
    """

    def __init__(self, agree: Callable[[int], int] = int):
        """Makes a listener.

        Args:
            agree: From this process's signal number (0: none) to one that is the same
                on all processes; `agreement.lagged_max`.
        """
        self.signal_number = 0
        self._agree = agree
        self._noted = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        """Starts to note SIGTERM."""
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
        before = signal.getsignal(signal.SIGINT)
        self._before[signal.SIGINT] = before
        if before != signal.SIG_IGN:  # as of a job that a shell put in the background
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return self

    def listen(self) -> None:
        """Starts to note SIGINT: from here on there are steps to save."""
        signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *unused: Any) -> None:
        """Puts the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> bool:
        """Returns whether the run was asked to end; all processes call it together."""
        if not self.signal_number:
            self.signal_number = self._agree(self._noted)
        return self.signal_number != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = number
        # Not by print: the signal may have come in the middle of another one, and
        # sys.stderr cannot be entered twice.
        text = (
            f"\n{hosts.prefix()}{signal.Signals(number).name}: finishing this step and "
            "saving (Ctrl-C again to stop at once)\n"
        )
        with contextlib.suppress(OSError):
            os.write(_STDERR, text.encode())
