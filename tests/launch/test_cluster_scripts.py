"""launch/slurm.sbatch and tpu_vm.sh, with stand-ins for Slurm, gcloud and qface."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from support.installed import install

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"


def stand_in(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("status", "state", "starts", "again"),
    [
        (0, "RUNNING", 0, False),
        (2, "RUNNING", 0, False),
        (1, "RUNNING", 0, False),
        (130, "RUNNING", 0, False),
        (143, "RUNNING", 0, True),
        (75, "RUNNING", 49, True),
        (75, "RUNNING", 50, False),
        (143, "COMPLETING", 0, False),  # scancel, or Slurm's own preemption
    ],
)
def test_slurm_puts_back_what_can_go_on(tmp_path, status, state, starts, again):
    install(tmp_path / "venv", ROOT, extras="cuda")
    tools = tmp_path / "tools"
    record = f'printf "%s\\n" "$@" >{tmp_path}/srun; exit {status}'
    stand_in(tools, "srun", record)
    stand_in(tools, "squeue", f"[[ $* == *--jobs=7* ]] && echo {state}")
    stand_in(tools, "scontrol", f'echo "$@" >{tmp_path}/scontrol')
    done = subprocess.run(
        ["bash", str(LAUNCH / "slurm.sbatch"), "--config.seed=4"],
        cwd=tmp_path, capture_output=True, text=True,
        env={
            "PATH": f"{tools}:/usr/bin:/bin", "QFACE_VENV": str(tmp_path / "venv"),
            "QFACE_DATA": "/data", "QFACE_RUN": "/run 1", "SLURM_JOB_ID": "7",
            "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_RESTART_COUNT": str(starts),
        },
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    words = (tmp_path / "srun").read_text().splitlines()
    assert words[words.index("qface") :] == [
        "qface",
        "train",
        "--config=adaface_r50_webface4m",
        "--config.data.path=/data",
        "--workdir=/run 1",
        "--cluster=slurm",
        "--config.seed=4",
    ]
    requeued = tmp_path / "scontrol"
    assert requeued.exists() == again
    assert not again or requeued.read_text() == "requeue 7\n"


def test_slurm_takes_a_whole_training(tmp_path):
    install(tmp_path / "venv", ROOT, extras="cuda")
    tools = tmp_path / "tools"
    stand_in(tools, "srun", f'printf "%s\\n" "$@" >{tmp_path}/srun')
    stand_in(tools, "squeue", "echo RUNNING")
    words = ["qface", "train", "--config=qgface_e", "--workdir=/run 1"]
    done = subprocess.run(
        ["bash", str(LAUNCH / "slurm.sbatch"), *words],
        cwd=tmp_path, capture_output=True, text=True,
        env={
            "PATH": f"{tools}:/usr/bin:/bin", "QFACE_VENV": str(tmp_path / "venv"),
            "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    given = (tmp_path / "srun").read_text().splitlines()
    assert given[given.index("qface") :] == [*words, "--cluster=slurm"]


def test_slurm_tells_what_is_missing(tmp_path):
    done = subprocess.run(
        ["bash", str(LAUNCH / "slurm.sbatch")],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "QFACE_DATA: folder of the training data" in done.stderr


@pytest.fixture
def tpu(tmp_path):
    """Runs launch/tpu_vm.sh where gcloud runs each command in a folder as its host."""
    home = tmp_path / "home"
    (home / "qface").mkdir(parents=True)
    stand_in(
        tmp_path / "tools",
        "gcloud",
        f'echo "$@" >>{tmp_path}/gcloud\n'
        '[[ $4 == scp ]] && exec cp "$5" "$HOME/${6#*:}"\n'
        'for word in "$@"; do [[ $word == --command=* ]] && run=${word#*=}; done\n'
        'cd && exec bash -c "$run"',
    )
    environment = {
        "PATH": f"{tmp_path}/tools:/usr/bin:/bin", "HOME": str(home),
        "TPU_NAME": "slice", "ZONE": "here",
        "QFACE_DATA": "/data set", "QFACE_RUN": "/run",
    }  # fmt: skip

    def call(*words):
        return subprocess.run(
            ["bash", str(LAUNCH / "tpu_vm.sh"), *words],
            capture_output=True, text=True, env=environment, timeout=60,
        )  # fmt: skip

    call.home, call.log = home, tmp_path / "gcloud"
    return call


def test_tpu_hosts_train_report_and_stop(tpu):
    trainer = 'printf "%s\\n" "$@" >words; trap "echo saved; exit 143" TERM\n'
    stand_in(
        tpu.home / "qface" / ".venv" / "bin", "qface",
        trainer + "while :; do sleep 0.05; done",
    )  # fmt: skip
    assert "not at work" in tpu("status").stdout
    assert tpu("train", "--config.seed=4").returncode == 0
    words = tpu.home / "qface" / "words"
    while not words.exists() or not words.read_text().endswith("seed=4\n"):
        time.sleep(0.02)
    assert words.read_text().splitlines() == [
        "train", "--config=adaface_r50_webface4m", "--config.data.path=/data set",
        "--workdir=/run",
        "--cluster=tpu", "--config.seed=4",
    ]  # fmt: skip
    assert ": at work" in tpu("status").stdout
    twice = tpu("train")
    assert (twice.returncode, "stop it first" in twice.stderr) == (1, True)
    assert tpu("stop").returncode == 0
    while ": at work" in tpu("status").stdout:
        time.sleep(0.02)
    assert tpu("status").stdout.endswith("saved\n")
    calls = tpu.log.read_text()
    assert calls.startswith("compute tpus tpu-vm ssh slice --zone=here --worker=all")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="copies the last commit")
def test_tpu_hosts_get_the_last_commit(tpu):
    words = ["git", "-C", str(ROOT), "show", "HEAD:pyproject.toml"]
    project = subprocess.run(words, capture_output=True, check=True).stdout
    copy = tpu.home / "qface"
    (copy / "pyproject.toml").write_bytes(project)
    install(copy / ".venv", copy, extras="tpu")  # or the set-up would download JAX
    done = tpu("setup")
    assert done.returncode == 0, done.stderr
    assert (copy / "launch" / "environment.sh").is_file()
    assert (copy / "pyproject.toml").read_bytes() == project
    assert not (copy / ".git").exists()
    assert tpu("all", "hostname").stdout.strip() == os.uname().nodename


def test_tpu_words_are_checked(tpu):
    assert "setup" in tpu("--help").stdout
    wrong = tpu("fly")
    assert wrong.returncode == 2
    assert "got 'fly', expected setup, train" in wrong.stderr
