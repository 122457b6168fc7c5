"""Who takes part in a run, by name, and whether all of them are still there.

JAX's coordination service has a heartbeat too. What it does not give, and this does:

- It aborts the survivors of a lost process (SIGABRT, which is no exit status of ours)
  and does not name its host; here a callback gets the number and the reason.
- It finds a dead process when its heartbeat has timed out; here the closed connection
  is noticed at once, and only a frozen process or a dark host by its missing beats.
- A process that gives up with an error leaves the others waiting in a collective; here
  it says why, and they end with the same exit status.
- At the start it says that a barrier timed out; here it names who did not join, and
  who was started twice or for another number of processes.

So each process holds one TCP connection to process 0, which carries the names at the
start, a beat now and then, and the reason when one of them has to give up.
"""

import contextlib
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from qface_jax.errors import ConfigError, UserError

_BEATS = 6  # in the time after which a silent process counts as lost
_LINE = 65536  # most bytes of a message


class NotJoinedError(UserError):
    """Some processes of the run did not come together in time."""


class MessageLine:
    """A TCP connection that carries one JSON object per line, both ways.

    Attributes:
        socket: Connected to the other side.
        heard: Time of the last message from the other side, of the monotonic clock.
        ended: Whether the other side said goodbye: its silence then means nothing.
    """

    def __init__(self, connection: socket.socket):
        self.socket = connection
        self.heard = time.monotonic()
        self.ended = False
        self._rest = b""
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> bool:
        """Sends a message; returns False if the other side is gone."""
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self.socket.sendall(data)
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """Ends the connection; whoever waits on it, on either side, is woken."""
        with contextlib.suppress(OSError):  # it may be over already
            self.socket.shutdown(socket.SHUT_RDWR)

    def receive(self) -> list[dict[str, Any]] | None:
        """Returns the messages that have come; None if the other side is gone."""
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
            messages = [json.loads(line) for line in lines if line]
        except ValueError:
            return None
        return messages if all(isinstance(m, dict) for m in messages) else None

    def first_message(self, deadline: float) -> dict[str, Any] | None:
        """Waits for one message and returns it; None if none comes in time."""
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                messages = self.receive()
            except TimeoutError:
                return None
            if messages is None or messages:
                return messages[0] if messages else None
        return None


class RollCall:
    """The processes that came together; `watch` them until `leave`."""

    def __init__(
        self,
        index: int,
        names: tuple[str, ...],
        lines: dict[int, MessageLine],
        *,
        silence: float,
        on_end: Callable[[int, int, str], None],
    ):
        """Made by `gather`.

        Args:
            index: Number of this process.
            names: Host names of all processes.
            lines: Number of a process -> connection: process 0's to all others, the
                others' to process 0.
            silence: Seconds after which a process that says nothing is lost.
            on_end: Called, in another thread, as on_end(process, status, why) when a
                process is lost (status 0) or gave up (its exit status).
        """
        self.names = names
        self._index = index
        self._lines = lines
        self._silence = silence
        self._on_end = on_end
        self._left = False
        self._thread = threading.Thread(
            target=self._watch, name="roll-call", daemon=True
        )

    def watch(self) -> None:
        """Begins to send beats and to listen for the others'."""
        self._thread.start()

    def leave(self, status: int, why: str = "") -> None:
        """Says goodbye to the others.

        Args:
            status: Exit status of this process.
            why: Empty where all processes end; else the others are told to end too.
        """
        self._left = True
        for line in self._lines.values():
            line.send({"end": status, "why": why, "process": self._index})

    def close(self) -> None:
        """Ends the watch, after `leave`."""
        self._left = True
        for line in self._lines.values():
            line.hang_up()
        if self._thread.is_alive():
            self._thread.join()
        for line in self._lines.values():
            line.socket.close()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for index, line in self._lines.items():
                line.heard = time.monotonic()
                line.socket.settimeout(self._silence)
                selector.register(line.socket, selectors.EVENT_READ, index)
            interval = self._silence / _BEATS
            next_beat = 0.0
            while any(not line.ended for line in self._lines.values()):
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + interval
                    for line in self._lines.values():
                        line.send({"beat": self._index})
                for key, _ in selector.select(interval):
                    if not self._hear(key.data):
                        selector.unregister(key.fileobj)
                self._check_silence()

    def _hear(self, index: int) -> bool:
        """Handles a process's messages; returns False if its connection is over."""
        line = self._lines[index]
        messages = line.receive()
        for message in messages or ():
            if "end" in message:
                line.ended = not message["why"]
                if message["why"]:
                    self._over(message["process"], message["end"], message["why"])
        if messages is None and not line.ended:
            line.ended = True
            self._over(index, 0, "its connection broke: the process died")
        return messages is not None

    def _check_silence(self) -> None:
        now = time.monotonic()
        for index, line in self._lines.items():
            if not line.ended and now - line.heard > self._silence:
                line.ended = True
                self._over(index, 0, f"it has not answered for {self._silence:g} s")

    def _over(self, process: int, status: int, why: str) -> None:
        if self._left:
            return
        if self._index == 0:  # the others hear process 0 alone
            for index, line in self._lines.items():
                if index != process:
                    line.send({"end": status, "why": why, "process": process})
        self._on_end(process, status, why)


def gather(
    index: int,
    count: int,
    address: tuple[str, int],
    *,
    patience: float,
    silence: float,
    on_end: Callable[[int, int, str], None],
) -> RollCall:
    """Waits until all processes are there; process 0 listens, the others call it.

    Args:
        index: Number of this process, 0 .. count - 1.
        count: Processes of the run.
        address: Host and port where process 0 listens.
        patience: Seconds to wait for the others.
        silence: Seconds after which a silent process counts as lost.
        on_end: See `RollCall`.

    Raises:
        NotJoinedError: naming who did not come.
        ConfigError: a process does not belong to this run.
    """
    print(
        f"process {index} of {count}: waiting for the others at "
        f"{address[0]}:{address[1]}, {patience:g} s at most",
        file=sys.stderr,
        flush=True,
    )
    deadline = time.monotonic() + patience
    name = socket.gethostname()
    if index == 0:
        names, lines = _listen(name, count, address, deadline, patience)
    else:
        names, lines = _call(index, name, count, address, deadline, patience)
    return RollCall(index, names, lines, silence=silence, on_end=on_end)


def _listen(name, count, address, deadline, patience):
    """Process 0: takes the others' names, then tells them all."""
    names, lines = {0: name}, {}
    with _server(address) as server:
        while len(names) < count and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                connection, _ = server.accept()
            except TimeoutError:
                break
            line = MessageLine(connection)
            hello = line.first_message(min(deadline, time.monotonic() + 10))
            if hello is None or "hello" not in hello:
                connection.close()  # whoever it was, no process of a run
                continue
            problem = _refusal(hello, count, names)
            if problem:
                _refuse([*lines.values(), line], problem, ConfigError)
            names[hello["hello"]] = hello["name"]
            lines[hello["hello"]] = line
    missing = [str(i) for i in range(count) if i not in names]
    if missing:
        joined = ", ".join(f"{i} ({names[i]})" for i in sorted(names))
        problem = (
            f"process {', '.join(missing)} of {count} did not join within {patience:g} "
            f"s; there are {joined}; start all {count} with the same command, or wait "
            "longer with --join-timeout"
        )
        _refuse(lines.values(), problem, NotJoinedError)
    all_names = tuple(names[i] for i in range(count))
    for line in lines.values():
        line.send({"names": all_names})
    return all_names, lines


def _refuse(lines, problem, error):
    for line in lines:
        line.send({"refused": problem, "passing": error is NotJoinedError})
        line.socket.close()
    raise error(problem)


def _refusal(hello, count, names):
    """Why a process cannot take part; '' where it can."""
    who = f"process {hello['hello']} on {hello['name']}"
    if hello["count"] != count:
        return (
            f"{who} was started for {hello['count']} processes, process 0 on "
            f"{names[0]} for {count}; start all with the same --processes"
        )
    if hello["hello"] in names:
        return (
            f"{who} is there twice: also on {names[hello['hello']]}; give each its "
            "own --process, and no second run the same --coordinator"
        )
    return ""


def _server(address):
    host, port = address
    local = host in ("localhost", "127.0.0.1", "::1")
    try:
        if not local and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
        return socket.create_server(("127.0.0.1" if local else "", port))
    except OSError as error:
        raise NotJoinedError(
            f"port {port} cannot be opened ({error.strerror}); give another "
            "--coordinator port (it and the next one are used), or end what holds it"
        ) from error


def _call(index, name, count, address, deadline, patience):
    """Every other process: calls process 0 until it answers."""
    line, why = None, ""
    while line is None and (left := deadline - time.monotonic()) > 0:
        try:
            line = MessageLine(socket.create_connection(address, timeout=min(left, 10)))
        except OSError as error:
            why = f" ({error.strerror or error})"
            time.sleep(min(0.2, max(left, 0)))
    where = f"{address[0]}:{address[1]}"
    if line is None:
        raise NotJoinedError(
            f"process 0 does not answer at {where}: not within {patience:g} s{why}; "
            "check that it was started, and the address of --coordinator"
        )
    line.send({"hello": index, "name": name, "count": count})
    # Process 0 gives the verdict at its own deadline.
    answer = line.first_message(deadline + 15)
    if answer is None or "names" not in answer:
        line.socket.close()
        if answer is None:
            raise NotJoinedError(f"process 0 at {where} hung up before all had joined")
        error = NotJoinedError if answer["passing"] else ConfigError
        raise error(answer["refused"])
    return tuple(answer["names"]), {0: line}
