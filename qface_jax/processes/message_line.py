"""A TCP connection that carries one JSON object per line, both ways."""

import contextlib
import json
import socket
import threading
import time
from typing import Any

_LINE = 65536  # most bytes of a message


class MessageLine:
    """One connection: messages out, messages in, when it last was heard."""

    def __init__(self, connection: socket.socket):
        """Takes over a connection."""
        self.socket = connection
        self.heard = time.monotonic()
        self.ended = False  # said goodbye: its silence means nothing
        self._rest = b""
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> bool:
        """Sends a message; False where nobody is left to hear it."""
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self.socket.sendall(data)
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """Ends the connection; whoever waits on it, here or there, is woken."""
        with contextlib.suppress(OSError):  # it may be over already
            self.socket.shutdown(socket.SHUT_RDWR)

    def receive(self) -> list[dict[str, Any]] | None:
        """Returns what has come; None where the other side is gone."""
        try:
            data = self.socket.recv(_LINE)
        except TimeoutError:
            raise
        except OSError:
            return None
        if not data:
            return None
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE:
            return None
        try:
            found = [json.loads(line) for line in lines if line]
        except ValueError:
            return None
        return found if all(isinstance(message, dict) for message in found) else None

    def first_message(self, deadline: float) -> dict[str, Any] | None:
        """Waits for one message; None where none comes in time."""
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                messages = self.receive()
            except TimeoutError:
                return None
            if messages is None or messages:
                return messages[0] if messages else None
        return None
