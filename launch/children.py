"""Commands that are run one after another and hear the signals meant for them."""

import collections
import contextlib
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
STDERR = 2


class Children:
    """Runs one command at a time; a signal goes to it, and nothing is run after it.

    Use as a context manager. A command is a session of its own: the terminal's Ctrl-C
    reaches it once, through here, not twice. Its answers go to the standard error.
    """

    def __init__(self) -> None:
        """Makes it with no command at work."""
        self.signal_number = 0
        self._at_work: subprocess.Popen | None = None
        self._waiting: collections.deque[int] = collections.deque()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Children":
        """Starts listening; what nohup made deaf stays so."""
        for number in PASSED_ON:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *unused: Any) -> None:
        """Puts the former handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, words: list[str]) -> int:
        """Runs a command to its end.

        Args:
            words: Program and arguments.

        Returns:
            Its exit status; 128 + N where signal N ended it.

        Raises:
            OSError: if there is no such program.
        """
        sys.stdout.flush()
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=STDERR, start_new_session=True
        ) as child:
            self._at_work = child
            self._pass_on()
            status = child.wait()
            self._at_work = None
        status = 128 - status if status < 0 else status
        if status in STOPPED and not self.signal_number:
            # Somebody told the command itself: that is meant for all of them.
            self.signal_number = status - 128
        return status

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = self.signal_number or number
        # A closed terminal is no reason to lose steps.
        self._waiting.append(signal.SIGTERM if number == signal.SIGHUP else number)
        self._pass_on()

    def _pass_on(self) -> None:
        """Sends what came, each exactly once, though a signal may interrupt this."""
        with contextlib.suppress(IndexError):  # all is sent
            while self._at_work is not None:
                self._at_work.send_signal(self._waiting.popleft())
