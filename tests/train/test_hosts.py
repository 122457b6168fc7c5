"""Runs of several processes over gloo: the same steps, and ends that are not hangs."""

import functools
import json
import signal
import time

import numpy as np
import pytest

from qface_jax.runs.checkpoint import load_parts, saved_steps
from support.closeness import assert_close_in_norm
from support.processes import Processes, free_port
from support.small_run import words

PARTS = ("params/backbone", "params/head", "stats", "aux")
STEPS = 20
# Partial FC does all that the full softmax does, and draws besides.
RATES = (pytest.param(1.0, marks=pytest.mark.slow), 0.25)
LAYOUTS = [  # processes, devices of each
    pytest.param(1, 8, marks=pytest.mark.slow),
    (2, 4),
    pytest.param(4, 2, marks=pytest.mark.slow),
]
ENDLESS = (
    "total_steps=20000",
    "checkpoint.interval=10000",
    "optim.schedule=constant",
    "optim.learning_rate=0.001",
    "eval.sets=()",
)


def command(run, *changes):
    return ["train", "--config=demo", f"--workdir={run}",
            *words("log.interval=1", *changes)]  # fmt: skip


def logged(run, name="loss"):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


def leaves(run):
    import jax

    step, parts = load_parts(run, "last", PARTS)
    return step, {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts)
    }


def twenty_steps(folder, noise_records, processes, devices, rate):
    run = folder / "run"
    changes = [
        f"total_steps={STEPS}",
        # At larger rates this small network multiplies rounding errors step by step;
        # at this one a gradient that is off by 1 % still fails in most leaves.
        "optim.learning_rate=0.001",
        "eval.sets=()",
        "checkpoint.interval=1000",
        "classifier.pad_to=64",
        *noise_records,
        f"classifier.sample_rate={rate}",
    ]
    with Processes(
        folder / "said", command(run, *changes), count=processes, devices=devices
    ) as started:
        started.finish()
    return run


@pytest.fixture(scope="module")
def one_device(noise_records, tmp_path_factory):
    """Rate -> the run on one device, made when it is first asked for."""

    @functools.cache
    def run(rate):
        return twenty_steps(tmp_path_factory.mktemp("one"), noise_records, 1, 1, rate)

    return run


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("processes", "devices"), LAYOUTS)
def test_the_same_steps_on_any_layout(
    processes, devices, rate, noise_records, one_device, tmp_path
):
    run = twenty_steps(tmp_path, noise_records, processes, devices, rate)
    got, want = logged(run), logged(one_device(rate))
    assert list(got) == list(want) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-4)
    (step, got), (_, want) = leaves(run), leaves(one_device(rate))
    assert step == STEPS
    assert_close_in_norm(got, want, 1e-4, floor=0.01)


@pytest.fixture(scope="module")
def two_stopped(tmp_path_factory):
    """A run of 2 processes that SIGTERM to the second of them ended."""
    folder = tmp_path_factory.mktemp("stopped")
    run = folder / "run"
    endless = command(run, *ENDLESS)
    with Processes(folder, endless, count=2, devices=2) as started:
        metrics = run / "metrics.jsonl"
        started.wait_until(lambda: metrics.is_file() and len(logged(run)) > 3)
        started.all[1].send_signal(signal.SIGTERM)
        time.sleep(0.05)
        started.all[1].send_signal(signal.SIGTERM)  # an impatient launcher
        statuses = started.statuses()
        return run, statuses, started.said(0), started.said(1)


def test_sigterm_to_one_saves_and_ends_all(two_stopped):
    run, statuses, first, second = two_stopped
    assert statuses == [128 + signal.SIGTERM] * 2, first + second
    step = saved_steps(run)["last"]
    assert list(logged(run)) == list(range(1, step + 1))
    assert f"stopped after step {step:,}, saved in" in first
    assert "[process 1 " in second and "SIGTERM: finishing this step" in second
    assert "Traceback" not in first + second


@pytest.mark.slow
def test_one_process_goes_on_where_two_stopped(two_stopped, tmp_path):
    run, *_ = two_stopped
    step = saved_steps(run)["last"]
    ending = [*ENDLESS, f"total_steps={step + 3}"]
    resumed = [*command(run, *ending), "--allow-config-change"]
    with Processes(tmp_path / "resumed", resumed, count=1, devices=1) as started:
        started.finish()
        assert f"going on after step {step:,}" in started.said(0)
    whole = tmp_path / "whole"
    with Processes(
        tmp_path / "said", command(whole, *ending), count=1, devices=1
    ) as started:
        started.finish()
    got, want = logged(run), logged(whole)
    assert list(got) == list(want) == list(range(1, step + 4))
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-4)


@pytest.mark.parametrize("dead", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_dead_process_ends_the_run_with_its_name(dead, tmp_path):
    run = tmp_path / "run"
    endless = command(run, *ENDLESS)
    with Processes(tmp_path, endless, count=2, devices=1) as started:
        metrics = run / "metrics.jsonl"
        started.wait_until(lambda: metrics.is_file() and len(logged(run)) > 1)
        started.all[dead].kill()
        begun = time.monotonic()
        statuses = started.statuses()
        assert time.monotonic() - begun < 20
        assert statuses[1 - dead] == 75, started.said(1 - dead)
        said = started.said(1 - dead)
        assert f"process {dead} (" in said and "is lost" in said


@pytest.mark.slow  # the time itself is test_roll_call's
def test_a_frozen_process_ends_the_run_in_the_stated_time(tmp_path):
    run = tmp_path / "run"
    endless = command(run, *ENDLESS)
    with Processes(
        tmp_path, [*endless, "--host-timeout=8"], count=2, devices=1
    ) as started:
        metrics = run / "metrics.jsonl"
        started.wait_until(lambda: metrics.is_file() and len(logged(run)) > 1)
        started.all[1].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        assert started.all[0].wait(60) == 75
        assert time.monotonic() - begun < 20
        assert "is lost: it has not answered for 8 s" in started.said(0)


def test_who_does_not_join_is_named(tmp_path):
    def flags(index):
        return ["--coordinator=127.0.0.1:1", "--processes=2", "--process=1",
                "--join-timeout=2"]  # fmt: skip

    with Processes(
        tmp_path, command(tmp_path / "run"), count=1, devices=1, flags=flags
    ) as started:
        assert started.statuses() == [75]
        assert "process 0 does not answer at 127.0.0.1:2: not within 2 s" in (
            started.said(0)
        )
    assert not (tmp_path / "run").exists()


def refused(folder, words_of_both, words_of_second):
    """What process 0 says when process 1 was started otherwise; nothing is written."""
    port = free_port()

    def flags(index):
        own = [f"--coordinator=127.0.0.1:{port}", "--processes=2", f"--process={index}"]
        return [*own, *(words_of_second if index else [])]

    with Processes(
        folder / "said", command(folder / "run", *words_of_both), count=2, devices=1,
        flags=flags,
    ) as started:  # fmt: skip
        assert started.statuses() == [2, 2], started.everything()
    assert not (folder / "run" / "config.json").exists()
    return started.said(0), started.said(1)


def test_processes_of_different_configs_refuse(tmp_path):
    said, _ = refused(tmp_path, [], ["--config.seed=7"])
    assert "process 1 (" in said
    assert "differs from process 0" in said


def test_a_process_without_the_data_ends_the_other(tmp_path):
    write_folder(tmp_path / "here")
    both = ["data.source=folder", f"data.path={tmp_path / 'here'}"]
    said, reason = refused(tmp_path, both, ["--config.data.path=nowhere"])
    assert "process 1 (" in said
    assert "nowhere" in reason


def write_folder(folder):
    from PIL import Image

    for person in "ab":
        (folder / person).mkdir(parents=True)
        for shot in range(8):
            Image.new("RGB", (112, 112), (shot, 9, 9)).save(
                folder / person / f"{shot}.png"
            )


SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
    "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "2",
}  # fmt: skip
OPENMPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}


@pytest.mark.slow  # what the clusters set is test_cluster's, shares test_share's
def test_slurm_trains_and_openmpi_evaluates_like_one_process(tmp_path):
    """Found by what the clusters set; the evaluation is shared by the hosts."""
    run = tmp_path / "run"
    with Processes(
        tmp_path / "train", command(run, "total_steps=2", "eval.synthetic.pairs=21"),
        count=2, devices=1,
        flags=lambda index: ["--cluster=slurm"],
        environment=lambda index: SLURM | {"SLURM_PROCID": str(index)},
    ) as started:  # fmt: skip
        started.finish()
        assert "21 pairs" in started.answered(0)
        assert started.answered(1) == ""
    shared = dict(np.load(run / "eval" / "synthetic.npz"))
    path = run / "eval" / "synthetic.json"
    wanted = json.loads(path.read_text())["scalars"]
    evaluate = ["eval", f"--checkpoint={run}"]
    with Processes(
        tmp_path / "eval", evaluate, count=2, devices=2,
        flags=lambda index: ["--cluster=openmpi"],
        environment=lambda index: OPENMPI | {"OMPI_COMM_WORLD_RANK": str(index)},
    ) as started:  # fmt: skip
        started.finish()
    again = dict(np.load(run / "eval" / "synthetic.npz"))
    with Processes(tmp_path / "alone", evaluate, count=1, devices=1) as started:
        started.finish()
    alone = dict(np.load(run / "eval" / "synthetic.npz"))
    assert (
        wanted == json.loads((run / "eval" / "synthetic.json").read_text())["scalars"]
    )
    numbers = {name: v for name, v in alone.items() if v.dtype.kind == "f"}
    assert {"cross_14", "same_112", "norms_14"} <= set(numbers)
    for other in (shared, again):
        for name, values in numbers.items():
            np.testing.assert_allclose(other[name], values, rtol=1e-5, atol=1e-6)
