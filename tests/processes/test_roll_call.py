"""Coming together, and noticing who is gone.

A process is a thread here, but for one that dies or freezes: its threads would go on.
"""

import contextlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import ClassVar

import pytest

from qface_jax.errors import ConfigError
from qface_jax.processes.roll_call import MessageLine, NotJoinedError, gather

WAIT = 10.0  # more than any of this takes
START = 60.0  # more than a process takes to start


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", probe.getsockname()[1]


@pytest.fixture(autouse=True)
def members_end():
    yield
    for member in Member.all:
        member.join(WAIT)
        if member.call is not None:
            member.call._left = True
    for member in Member.all:
        if member.call is not None:
            member.call.close()
    Member.all.clear()


class Member(threading.Thread):
    """A process of a run: what gathering gave it, and what it was told later."""

    all: ClassVar[list] = []

    def __init__(self, index, count, address, patience=WAIT, silence=WAIT):
        super().__init__(daemon=True)
        self.told = queue.Queue()
        self.call = self.error = self.passing = None
        self._gather = lambda: gather(
            index,
            count,
            address,
            patience=patience,
            silence=silence,
            on_end=lambda *what: self.told.put(what),
        )
        self.all.append(self)
        self.start()

    def run(self):
        try:
            self.call = self._gather()
        except (NotJoinedError, ConfigError) as error:
            self.error, self.passing = str(error), isinstance(error, NotJoinedError)

    def joined(self, seconds=WAIT):
        self.join(seconds)
        assert self.call is not None, self.error
        return self.call


def together(count, address, **kwargs):
    members = [Member(i, count, address, **kwargs) for i in reversed(range(count))]
    members.reverse()
    for member in members:
        member.joined().watch()
    return members


def test_all_learn_all_names(address, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "somewhere")
    assert [m.call.names for m in together(3, address)] == [("somewhere",) * 3] * 3


def test_who_did_not_come_is_named_to_all(address):
    first, third = (Member(i, 4, address, patience=1.0) for i in (0, 2))
    for member in (first, third):
        member.join(WAIT)
        assert "process 1, 3 of 4 did not join within 1 s" in member.error
        assert f"0 ({socket.gethostname()})" in member.error
        assert member.passing


def test_a_host_that_does_not_exist_is_named_with_the_reason():
    alone = Member(1, 2, ("no-such-host.invalid", 9900), patience=0.5)
    alone.join(WAIT)
    assert "does not answer at no-such-host.invalid:9900" in alone.error
    assert "Name" in alone.error or "resolution" in alone.error


def test_nobody_listens(address):
    alone = Member(1, 2, address, patience=0.5)
    alone.join(WAIT)
    assert f"process 0 does not answer at 127.0.0.1:{address[1]}" in alone.error


@pytest.mark.parametrize(
    ("index", "count", "said"),
    [(1, 3, "is there twice"), (2, 4, "was started for 4 processes")],
)
def test_who_does_not_belong_is_refused(index, count, said, address):
    first, second = Member(0, 3, address), Member(1, 3, address)
    while not second.is_alive() or first.error:
        time.sleep(0.01)
    time.sleep(0.3)
    stranger = Member(index, count, address)
    for member in (first, stranger):
        member.join(WAIT)
        assert said in member.error
        assert not member.passing  # starting again would not mend it


def test_a_stranger_on_the_port_does_not_disturb(address):
    first = Member(0, 2, address)
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[1]\n", b""):
        deadline = time.monotonic() + WAIT
        while True:
            try:
                stranger = socket.create_connection(address)
                break
            except OSError:
                assert time.monotonic() < deadline
        stranger.sendall(words)
        stranger.close()
    second = Member(1, 2, address)
    assert len(second.joined().names) == len(first.joined().names) == 2


def test_a_taken_port_is_named(address):
    with socket.create_server(address):
        member = Member(0, 2, address)
        member.join(WAIT)
    assert f"port {address[1]} cannot be opened" in member.error


PROCESS = """
import sys, time
from qface_jax.processes.roll_call import gather
index, count, port, patience, silence = map(float, sys.argv[1:])
call = gather(int(index), int(count), ("127.0.0.1", int(port)), patience=patience,
              silence=silence, on_end=print)
call.watch()
time.sleep(patience)
"""


@contextlib.contextmanager
def together_with_a_process(index, count, address, silence=WAIT):
    """A real process of that index, and the other members."""
    words = (index, count, address[1], START, silence)
    command = [sys.executable, "-c", PROCESS, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            others = [
                Member(i, count, address, patience=START, silence=silence)
                for i in range(count)
                if i != index
            ]
            for member in others:
                member.joined(START).watch()
            yield process, others
        finally:
            process.kill()


@pytest.mark.parametrize("dead", [0, 1])
def test_a_death_is_told_to_all_at_once(dead, address):
    with together_with_a_process(dead, 3, address) as (process, others):
        process.kill()
        for member in others:
            lost, status, why = member.told.get(timeout=WAIT)
            assert (lost, status) == (dead, 0)
            assert "died" in why


def test_a_silent_process_is_lost_after_the_stated_time(address):
    with together_with_a_process(2, 3, address, silence=1.0) as (process, others):
        time.sleep(2.0)
        assert all(member.told.empty() for member in others)  # beats keep all alive
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        for member in others:
            told = member.told.get(timeout=WAIT)
            assert told == (2, 0, "it has not answered for 1 s")
        assert time.monotonic() - start < 3.0


def test_the_reason_of_one_is_told_to_all(address):
    members = together(3, address)
    members[2].call.leave(2, "ConfigError: no such folder")
    for member in members[:2]:
        assert member.told.get(timeout=WAIT) == (2, 2, "ConfigError: no such folder")
    assert members[2].told.empty()


def test_an_orderly_end_alarms_nobody(address):
    members = together(3, address)
    for member in members:
        member.call.leave(0)
    for line in members[0].call._lines.values():
        line.hang_up()
    time.sleep(0.5)
    assert all(member.told.empty() for member in members)


def test_a_message_without_end_is_cut_off():
    ours, theirs = socket.socketpair()
    line = MessageLine(ours)
    theirs.settimeout(WAIT)
    sender = threading.Thread(target=theirs.sendall, args=(b"x" * 200_000,))
    sender.start()
    while (got := line.receive()) == []:
        pass
    assert got is None
    ours.close()
    theirs.close()
    sender.join(WAIT)
