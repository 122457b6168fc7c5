"""A run that is killed and started again ends as one that was not, bit for bit."""

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


def start(run, source, stderr=subprocess.PIPE):
    arguments = words(
        f"total_steps={STEPS}", "checkpoint.interval=4", "eval.sets=()", *source
    )
    return subprocess.Popen(
        [sys.executable, "-m", "qface_jax.launch.main", "train", "--config=demo",
         f"--workdir={run}", *arguments],
        stdout=subprocess.DEVNULL, stderr=stderr, text=True,
    )  # fmt: skip


def finish(run, source):
    process = start(run, source)
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
    killed = start(tmp_path / "killed", source)
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
    process = start(run, ["checkpoint.interval=1000000", "total_steps=100000"])
    metrics = run / "metrics.jsonl"
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


def test_ctrl_c_before_the_first_step_ends_at_once(tmp_path):
    run = tmp_path / "run"
    said = tmp_path / "said"
    # Compiled anew, and for a while.
    with said.open("w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
        process = start(run, ["model.backbone=iresnet18"], out)
    deadline = time.monotonic() + 200
    while "compiling (first step)" not in said.read_text():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert "compiled in" not in said.read_text()
    assert saved_steps(run)["last"] is None
