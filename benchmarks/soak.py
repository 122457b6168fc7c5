"""Trains for an hour with preemptions, and watches memory, files and checkpoints.

    python benchmarks/soak.py [--minutes=60] [--preempt=10] [--data=FOLDER]

One run of the smallest network on records (`qface data import` of drawn faces, or
--data) evaluates and saves every minute or so, gets SIGTERM after every --preempt
minutes and is started again. Every 2 s the memory, open files and threads of the
process are read from /proc (Linux). Of each life the first four minutes are left out,
in which all is compiled, evaluated and saved for the first time and the buffers fill;
printed are its slope of memory by least squares, and what was open at the beginning and
at the end. On a CPU the device's arrays lie in the same memory.

At the end: the logged steps without a gap or a repetition, no more checkpoints than
`checkpoint.keep`, nothing half-written in the run's folder. Exit status 1 where that
does not hold, where a life ended with a wrong status, or where the mean slope of all
lives is above --slope MiB an hour.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

PREEMPTED = 128 + signal.SIGTERM
WARM_UP = 240.0  # s
EVERY = 2.0  # s between two looks
KEPT = 2  # checkpoint.keep, its default
SETTINGS = (
    # What leaks lies beside the network: a small one does more of it in an hour.
    "model.backbone=tiny",
    "data.source=array_record",
    "total_steps=2000000000",
    "optim.schedule=constant",
    "optim.learning_rate=0.01",
    "checkpoint.interval=500",
    "eval.interval=1000",
    "eval.synthetic.identities=20",
    "eval.synthetic.pairs=200",
    "eval.resolutions=(112,14)",
    "log.interval=10",
)


class Look(NamedTuple):
    """A process at one moment.

    Attributes:
        seconds: Since its start.
        mebibytes: Resident memory.
        files: Open file descriptors.
        threads: Of the process.
    """

    seconds: float
    mebibytes: float
    files: int
    threads: int


def look(process: subprocess.Popen, started: float) -> Look | None:
    """Reads what a process holds; None when it has ended."""
    folder = Path("/proc") / str(process.pid)
    try:
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines()
        )
        files = len(os.listdir(folder / "fd"))
        memory = int(status["VmRSS"].split()[0]) / 1024
        threads = int(status["Threads"])
    except (OSError, KeyError):
        return None
    return Look(time.monotonic() - started, memory, files, threads)


def live(command: list[str], log: Path, seconds: float) -> tuple[int, list[Look]]:
    """Runs the command, asks it to stop after some time; its status and the looks."""
    looks = []
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        started, asked = time.monotonic(), False
        try:
            while process.poll() is None:
                if (seen := look(process, started)) is not None:
                    looks.append(seen)
                if not asked and time.monotonic() - started > seconds:
                    process.send_signal(signal.SIGTERM)
                    asked = True
                time.sleep(EVERY)
        finally:
            process.kill()
    return process.returncode, looks


def slope(looks: list[Look]) -> float:
    """MiB per hour, least squares; nan of fewer than 10 looks."""
    if len(looks) < 10:
        return float("nan")
    hours = np.array([one.seconds for one in looks]) / 3600
    return float(np.polyfit(hours, [one.mebibytes for one in looks], 1)[0])


def records(folder: Path) -> Path:
    """Draws a training set and imports it; returns its folder."""
    from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces

    source = SyntheticFaces(identities=200, images_per_identity=10, seed=0)
    for label in range(source.num_classes):
        rows = np.arange(label * 10, label * 10 + 10)
        for row, image in zip(rows, source.fetch(rows)[0], strict=True):
            target = folder / "images" / f"{label:03d}" / f"{row}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(image)
    words = ["data", "import", str(folder / "images"), str(folder / "records")]
    subprocess.run([sys.executable, "-m", "qface_jax.launch.main", *words], check=True)
    return folder / "records"


def faults(run: Path) -> list[str]:
    """Says what is wrong with what the run left."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    steps = [line["step"] for line in lines if "loss" in line]
    found = []
    if steps != sorted(set(steps)):
        found.append("steps are logged twice or out of order")
    # A stop is logged, too, between those of the interval.
    missing = set(range(10, steps[-1], 10)) - set(steps)
    if missing:
        found.append(f"{len(missing)} steps are not logged, as {min(missing)}")
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    if len(names) > KEPT or not all(name.isdecimal() for name in names):
        found.append(f"checkpoints: {', '.join(names)}, expected {KEPT} at most")
    partial = [str(path) for path in run.rglob("*") if "partial" in path.name]
    if partial:
        found.append(f"half-written: {', '.join(partial)}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--preempt", type=float, default=10.0, help="minutes of a life")
    parser.add_argument("--data", type=Path, help="an imported set; default: drawn")
    parser.add_argument("--slope", type=float, default=100.0, help="MiB/h allowed")
    given = parser.parse_args()
    wrong, slopes = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = given.data or records(folder)
        run, log = folder / "run", folder / "log"
        words = [f"--config.{word}" for word in (*SETTINGS, f"data.path={data}")]
        command = [sys.executable, "-m", "qface_jax.launch.main", "train"]
        command += ["--config=demo", f"--workdir={run}", *words]
        end = time.monotonic() + 60 * given.minutes
        print("life  minutes  MiB first  last  MiB/h   files first  last  threads")
        while (left := end - time.monotonic()) > WARM_UP:
            status, looks = live(command, log, min(left, 60 * given.preempt))
            if status != PREEMPTED:
                wrong.append(f"life {len(slopes) + 1}: exit status {status}")
                print(log.read_text()[-2000:])
                break
            # The last looks are of its end, when it lets go of all.
            steady = [one for one in looks if one.seconds > WARM_UP][:-5]
            slopes.append(slope(steady))
            if steady:
                first, last = steady[0], steady[-1]
                print(
                    f"{len(slopes):>4}{looks[-1].seconds / 60:>9.1f}"
                    f"{first.mebibytes:>11.0f}{last.mebibytes:>6.0f}{slopes[-1]:>7.0f}"
                    f"{first.files:>14}{last.files:>6}{last.threads:>9}",
                    flush=True,
                )
        if not wrong:
            wrong += faults(run)
            lines = (run / "metrics.jsonl").read_text().splitlines()
            print(f"steps: {json.loads(lines[-1])['step']:,}")
    mean = float(np.nanmean(slopes)) if slopes else float("nan")
    print(f"mean slope {mean:.0f} MiB/h over {len(slopes)} lives")
    if not mean <= given.slope:
        wrong.append(f"memory: got {mean:.0f} MiB/h, expected at most {given.slope:g}")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
