"""A run that is killed and started again ends as one that was not, bit for bit."""

import contextlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from qface_jax.runs.checkpoint import load_parts, saved_steps
from support import recordio_writer
from support.small_run import words

STEPS = 40
PARTS = ("params/backbone", "params/head", "stats", "aux", "opt_state")


@contextlib.contextmanager
def started(run, source, stderr=subprocess.PIPE):
    """A run in a process that hears Ctrl-C, and is gone afterwards, come what may."""
    arguments = words(
        f"total_steps={STEPS}", "checkpoint.interval=4", "eval.sets=()", *source
    )
    # Tests in the background of a shell ignore it, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "qface_jax.launch.main", "train", "--config=demo",
             f"--workdir={run}", *arguments],
            stdout=subprocess.DEVNULL, stderr=stderr, text=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def finish(run, source):
    with started(run, source) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def wait_for_step(run, process, step):
    """Waits until a checkpoint at or after the step is there."""
    deadline = time.monotonic() + 200
    while (saved_steps(run)["last"] or 0) < step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.01)


@pytest.fixture
def records(tmp_path):
    """A small .rec in the layout of insightface."""
    labels = [number // 4 for number in range(32)]
    images = [recordio_writer.jpeg(seed) for seed in range(32)]
    folder = recordio_writer.write_indexed(tmp_path / "records", labels, images)
    return ["data.source=mxnet", f"data.path={folder}"]


@pytest.mark.parametrize(
    "kind", ["synthetic", pytest.param("mxnet", marks=pytest.mark.slow)]
)
def test_sigkill_at_a_random_step(kind, tmp_path, request):
    source = [] if kind == "synthetic" else request.getfixturevalue("records")
    finish(tmp_path / "whole", source)
    at = random.SystemRandom().randrange(4, STEPS - 20)
    with started(tmp_path / "killed", source) as killed:
        wait_for_step(tmp_path / "killed", killed, at)
        killed.kill()
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert saved_steps(tmp_path / "killed")["last"] < STEPS, f"killed too late, {at=}"
    assert "going on after step" in finish(tmp_path / "killed", source)
    step, want = load_parts(tmp_path / "whole", "last", PARTS)
    again, got = load_parts(tmp_path / "killed", "last", PARTS)
    assert step == again == STEPS
    for a, b in zip(leaves(got), leaves(want), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"killed after step {at}")


def leaves(tree):
    import jax

    return jax.tree.leaves(tree)


@pytest.mark.parametrize(
    "number",
    # That one is also sent in test_hosts.
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_ctrl_c_saves_the_step_in_hand(number, tmp_path):
    run = tmp_path / "run"
    metrics = run / "metrics.jsonl"
    source = ["checkpoint.interval=1000000", "total_steps=100000"]
    with started(run, source) as process:
        deadline = time.monotonic() + 200
        while not (metrics.is_file() and metrics.read_text().count("loss") >= 3):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + number, said
    step = saved_steps(run)["last"]
    assert f"stopped after step {step:,}, saved in" in said
    assert "Traceback" not in said


def test_ctrl_c_before_the_first_step_ends_at_once(tmp_path, monkeypatch):
    run = tmp_path / "run"
    said = tmp_path / "said"
    # Compiled anew, and for a while.
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    source = ["model.backbone=iresnet18"]
    with said.open("w") as out, started(run, source, out) as process:
        deadline = time.monotonic() + 200
        while "compiling (first step)" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
    assert "compiled in" not in said.read_text()
    assert saved_steps(run)["last"] is None
