"""launch/local.sh: tiny commands in place of qface, several processes each."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.installed import install

SCRIPT = Path(__file__).parents[2] / "launch" / "local.sh"
# What every stand-in begins with: its number, from --process=I, its last argument.
NUMBER = 'me="${@: -1}"; me=${me##*=}; '
# Notes each SIGTERM or SIGINT, waits for more of them, and ends as qface does.
LISTENS = (
    NUMBER + "for name in TERM INT; do "
    'trap "echo $name >>heard-$me; code=$((128 + $(kill -l $name)))" $name; done; '
    'code=; echo $$ >pid-$me; until [[ -n $code ]]; do sleep 0.05; done; '
    'for more in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; exit "$code"'
)  # fmt: skip
# Both are there, and deaf to SIGTERM, before one of the two ends.
MEETS = (
    "trap '' TERM; echo >up-$me; "
    "until [[ -e up-$((1 - me)) ]]; do sleep 0.02; done; "
)  # fmt: skip


# Undoes what nohup and `&` make of signals, for bash cannot trap an ignored one. Not a
# preexec_fn: that forks, which JAX's threads do not allow.
HEARS = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
os.execvp("bash", ["bash", *sys.argv[1:]])
"""


@contextlib.contextmanager
def start(folder, *words, **environment):
    with subprocess.Popen(
        [sys.executable, "-c", HEARS, str(SCRIPT), *words],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | environment,
    ) as launcher:  # fmt: skip
        try:
            yield launcher
        finally:
            launcher.kill()  # leaving waits for it, however the test went


def run(folder, processes, stand_in, *options, **environment):
    """Runs the launcher to its end; returns its status, output and errors."""
    words = (str(processes), *options, "bash", "-c", stand_in, "stand-in")
    with start(folder, *words, **environment) as launcher:
        out, err = launcher.communicate(timeout=60)
    return launcher.returncode, out, err


def wait_for(condition):
    """Waits until the condition holds and returns what it gave."""
    deadline = time.monotonic() + 20
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
    return value


def listening(folder, processes):
    """Numbers of the stand-ins, once all of them listen for signals."""

    def pids():
        files = [folder / f"pid-{index}" for index in range(processes)]
        texts = [file.read_text() if file.exists() else "" for file in files]
        return all(texts) and [int(text) for text in texts]

    return wait_for(pids)


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_each_process_gets_its_part_and_the_words_as_they_were(tmp_path):
    record = NUMBER + 'printf "%s\\n" "$@" >words-$me'
    words = ["bash", "-c", record, "stand-in", "--config.data.path=a  b", "*"]
    with start(tmp_path, "3", *words) as launcher:
        assert launcher.wait(timeout=60) == 0
    ports = set()
    for index in range(3):
        got = (tmp_path / f"words-{index}").read_text().splitlines()
        assert got[:2] == ["--config.data.path=a  b", "*"]
        assert got[3:] == ["--processes=3", f"--process={index}"]
        ports.add(re.fullmatch(r"--coordinator=127\.0\.0\.1:(\d+)", got[2])[1])
    (port,) = map(int, ports)
    for number in (port, port + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", number))


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("exit 0", "exit 0", 0),
        ("exit 75", "exit 2", 2),
        ("exit 1", "exit 75", 1),
        ("exit 1", "exit 2", 2),
        ("exit 75", "exit 9", 9),
        ("exit 75", "exit 75", 75),
        ("kill -KILL $$", "exit 75", 137),
        ("kill -ABRT $$", "exit 1", 1),
        ("exit 143", "exit 143", 143),
        ("exit 130", "exit 130", 130),
        ("exit 143", "exit 75", 75),
        ("exit 0", "exit 143", 143),
    ],
)
def test_the_status_is_that_of_the_cause(tmp_path, first, second, status):
    stand_in = NUMBER + MEETS + f"if ((me)); then {second}; else {first}; fi"
    assert run(tmp_path, 2, stand_in)[0] == status


@pytest.mark.parametrize("status", [1, 2])
def test_an_error_stops_the_others_at_once(tmp_path, status):
    waits = f"until [[ -e pid-0 ]]; do sleep 0.05; done; exit {status}"
    stand_in = NUMBER + f"if ((me)); then {waits}; fi; " + LISTENS
    began = time.monotonic()
    assert run(tmp_path, 2, stand_in)[0] == status
    assert time.monotonic() - began < 15  # far below the grace
    assert (tmp_path / "heard-0").read_text() == "TERM\n"


def test_who_does_not_end_after_a_loss_is_killed(tmp_path):
    deaf = NUMBER + "((me)) && exit 75; trap '' TERM; echo $$ >pid-0; exec sleep 300"
    status, _, said = run(tmp_path, 2, deaf, "--grace=1")
    assert status == 137
    assert "killing what has not ended within 1 s" in said
    assert not alive((tmp_path / "pid-0").read_text().strip())


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("exit 75", 75),
        ("exit 143", 143),
        ("kill -KILL $$", 137),
        ("kill -ABRT $$", 134),
    ],
)
def test_what_passes_is_started_again_so_many_times(tmp_path, ending, status):
    stand_in = NUMBER + f"echo >>starts-$me; ((me)) || {{ {ending}; }}; exit 143"
    got, _, said = run(tmp_path, 2, stand_in, "--restarts=2")
    assert got == status
    for index in range(2):
        assert len((tmp_path / f"starts-{index}").read_text().splitlines()) == 3
    assert "starting all again (2 of 2)" in said


def test_it_ends_well_when_a_later_start_does(tmp_path):
    stand_in = NUMBER + "echo >>starts-$me; (($(wc -l <starts-$me) == 3)) || exit 75"
    assert run(tmp_path, 2, stand_in, "--restarts=5")[0] == 0
    assert (tmp_path / "starts-0").read_text() == "\n\n\n"


@pytest.mark.parametrize("status", [0, 1, 2, 9, 130])
def test_what_does_not_pass_is_not_started_again(tmp_path, status):
    stand_in = NUMBER + f"echo >>starts-$me; exit {status}"
    assert run(tmp_path, 2, stand_in, "--restarts=2")[0] == status
    assert (tmp_path / "starts-0").read_text() == "\n"


@pytest.mark.parametrize(
    ("sent", "heard", "status"),
    [
        (signal.SIGTERM, "TERM", 143),
        (signal.SIGINT, "INT", 130),
        (signal.SIGHUP, "TERM", 143),
    ],
)
def test_a_signal_is_passed_on_once_and_ends_it(tmp_path, sent, heard, status):
    words = ("2", "--restarts=3", "bash", "-c", LISTENS, "stand-in")
    with start(tmp_path, *words) as launcher:
        pids = listening(tmp_path, 2)
        launcher.send_signal(sent)
        assert launcher.wait(timeout=30) == status
        said = launcher.stderr.read()
    assert [(tmp_path / f"heard-{i}").read_text() for i in range(2)] == [
        f"{heard}\n"
    ] * 2
    assert "starting all again" not in said
    assert not any(map(alive, pids))


def test_asked_to_stop_a_loss_on_the_way_out_is_no_reason_to_start_again(tmp_path):
    stand_in = LISTENS.replace('exit "$code"', '((me)) && exit 75; exit "$code"')
    assert stand_in != LISTENS
    words = ("2", "--restarts=3", "bash", "-c", stand_in, "stand-in")
    with start(tmp_path, *words) as launcher:
        listening(tmp_path, 2)
        launcher.terminate()
        assert launcher.wait(timeout=30) == 143
        assert "starting all again" not in launcher.stderr.read()


def test_killed_itself_it_leaves_no_process(tmp_path):
    tools = subprocess.run(["setpriv", "--help"], capture_output=True, text=True)
    assert "pdeathsig" in tools.stdout  # util-linux, on every Linux with a login
    with start(tmp_path, "2", "bash", "-c", LISTENS, "stand-in") as launcher:
        pids = listening(tmp_path, 2)
        launcher.kill()
        launcher.wait(timeout=30)
        wait_for(lambda: not any(map(alive, pids)))


def test_what_a_process_leaves_behind_is_ended(tmp_path):
    leaves = NUMBER + "sleep 300 & echo $! >left-$me"
    assert run(tmp_path, 2, leaves)[0] == 0
    for index in range(2):
        left = int((tmp_path / f"left-{index}").read_text())
        wait_for(lambda left=left: not alive(left))


@pytest.mark.parametrize(
    ("environment", "processes", "devices"),
    [
        ({}, 3, ["0", "1", "2"]),
        ({}, 5, ["unset"] * 5),
        ({"CUDA_VISIBLE_DEVICES": "6,2"}, 2, ["6", "2"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, 2, ["", ""]),
    ],
)
def test_each_process_gets_a_gpu_where_there_are_enough(
    tmp_path, monkeypatch, environment, processes, devices
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n3\\n'\n")
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    stand_in = NUMBER + 'echo "${CUDA_VISIBLE_DEVICES-unset}" >device-$me'
    assert run(tmp_path, processes, stand_in, PATH=path, **environment)[0] == 0
    got = [(tmp_path / f"device-{i}").read_text().strip() for i in range(processes)]
    assert got == devices


def test_without_the_command_on_path_the_environment_is_made(tmp_path):
    install(tmp_path / "venv", SCRIPT.parents[1])
    (tmp_path / "venv" / "bin" / "qface").write_text('#!/bin/sh\necho "it ran: $1"\n')
    with start(
        tmp_path, "1", "qface", "train", PATH="/usr/bin:/bin",
        QFACE_VENV=str(tmp_path / "venv"),
    ) as launcher:  # fmt: skip
        out, err = launcher.communicate(timeout=30)
    assert (launcher.returncode, out) == (0, "it ran: train\n"), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "got '' where the number"),
        (["0", "true"], "got '0' where the number"),
        (["two", "true"], "got 'two' where the number"),
        (["2", "--restart=1", "true"], "got '--restart=1', expected --restarts=K"),
        (["2", "--grace=soon", "true"], "got '--grace=soon', expected --restarts=K"),
        (["2", "--restarts=1"], "no command"),
    ],
)
def test_wrong_words_are_refused(tmp_path, words, said):
    with start(tmp_path, *words) as launcher:
        _, err = launcher.communicate(timeout=30)
    assert launcher.returncode == 2
    assert said in err
