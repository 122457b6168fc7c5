"""Ctrl-C and SIGTERM: the step in hand is finished and saved, then the run ends."""

import signal
from types import FrameType
from typing import Any

from qface_jax.train.monitor import say


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
    """Notes the first SIGINT or SIGTERM; a second SIGINT ends the program at once."""

    def __init__(self):
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        """Starts listening."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *unused: Any) -> None:
        """Puts the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether the run was asked to end."""
        return self.signal_number is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        say(
            f"\n{signal.Signals(number).name}: finishing this step and saving "
            "(Ctrl-C again to stop at once)"
        )
