"""Kills the processes of a run at random and checks that nothing of it is lost.

    python benchmarks/chaos.py [--rounds=10] [--signals=both] [--seed=0] [--steps=60]

Each round is a small run of two processes with two virtual devices each, started by
launch/local.sh. At random times a random one of the two gets SIGTERM (all is saved) or
SIGKILL (the steps since the last checkpoint are done again), until the run is done.
Then its status is 0, `metrics.jsonl` has every step once and in order with the loss of
an undisturbed run, and each leaf of its last checkpoint equals that run's bit for bit.
Exit status 1 if anything differs; the folder of the runs is then kept.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

LAUNCHER = Path(__file__).parents[1] / "launch" / "local.sh"
PROCESSES, DEVICES_EACH, RESTARTS = 2, 2, 99
SIGNALS = {
    "term": (signal.SIGTERM,),
    "kill": (signal.SIGKILL,),
    "both": (signal.SIGTERM, signal.SIGKILL),
}
SMALL = (
    "model.backbone=tiny",
    "model.embedding_dim=16",
    "data.batch_size=16",
    "data.synthetic.identities=12",
    "data.synthetic.images_per_identity=4",
    "optim.warmup_steps=0",
    "eval.synthetic.identities=6",
    "eval.synthetic.pairs=20",
    "eval.resolutions=(112,14)",
    "eval.batch_size=16",
    "checkpoint.interval=4",
    "log.interval=1",
)
# Who is lost is known at once from its closed connection. Who dies before it has joined
# is missed after the first of these; the grace of the launcher is above both.
PATIENCE = ("--join-timeout=60", "--host-timeout=10")
GRACE = 75
AGAIN = re.compile(r"^local\.sh: starting all again", re.MULTILINE)


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        status: Exit status of the launcher.
        sent: Names of the signals, in order.
        restarts: How often all processes were started again.
        seconds: From the start to the end.
    """

    status: int
    sent: tuple[str, ...]
    restarts: int
    seconds: float


def environment(folder):
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(DEVICES_EACH),
        # Restarts then spend their time on what is tested.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }


def trainers(launcher):
    """Numbers of the launcher's children that are `qface train`."""
    try:
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    except FileNotFoundError:
        return []
    pids = []
    for pid in children.split():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if any(word.startswith(b"--process=") for word in words):
            pids.append(int(pid))
    return pids


class Chaos:
    """Sends signals to a run's processes until it is done.

    Three of four wait for the steps, which take but a part of a run's time; the others
    come anywhere, also while the processes start, evaluate or write the report. One of
    four is followed by a second one while its consequences are under way.
    """

    def __init__(self, chance, signals, *, run_seconds, step_seconds):
        """Takes chance and signals, and the seconds of a run and of all its steps."""
        self._chance, self._signals = chance, signals
        self._run_seconds, self._step_seconds = run_seconds, step_seconds
        self.sent = []

    def disturb(self, process, run):
        """Returns when the launcher has ended."""
        while self._until(process, lambda: trainers(process.pid)):
            targets, now = trainers(process.pid), time.time()
            if self._chance.random() < 0.75:
                self._until(process, lambda now=now: last_line(run) > now)
                self._pause(process, 1.5 * self._step_seconds)
            else:
                self._pause(process, self._run_seconds)
            self._send(process)
            if self._chance.random() < 0.25:
                self._pause(process, 2.0)
                self._send(process)
            # The next ones are for the next processes.
            self._until(
                process,
                lambda old=targets: not set(old) & set(trainers(process.pid)),
            )

    def _until(self, process, condition):
        """Waits for the condition; returns whether the launcher is still at work."""
        while process.poll() is None:
            if condition():
                return True
            time.sleep(0.1)
        return False

    def _pause(self, process, longest):
        end = time.monotonic() + self._chance.uniform(0, longest)
        self._until(process, lambda: time.monotonic() > end)

    def _send(self, process):
        number = self._chance.choice(self._signals)
        targets = trainers(process.pid)
        if process.poll() is None and targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(targets), number)
                self.sent.append(number.name)


def train(run, steps, chaos=None):
    """Runs the small run to its end and returns what became of it."""
    words = [
        "bash", str(LAUNCHER), str(PROCESSES), f"--restarts={RESTARTS}",
        f"--grace={GRACE}", "qface", "train", "--config=demo", f"--workdir={run}",
        *PATIENCE, f"--config.total_steps={steps}",
        *(f"--config.{word}" for word in SMALL),
    ]  # fmt: skip
    log = run.with_suffix(".log")
    began = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            words, env=environment(run.parent), stdout=file, stderr=file
        )
        try:
            if chaos is not None:
                chaos.disturb(process, run)
            status = process.wait()
        finally:
            process.kill()  # its processes end with it
    seconds = time.monotonic() - began
    restarts = len(AGAIN.findall(log.read_text()))
    return Outcome(status, tuple(chaos.sent) if chaos else (), restarts, seconds)


def step_lines(run):
    """The lines of `metrics.jsonl` that tell of a step, not of an evaluation."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]


def last_line(run):
    """When the run last wrote of a step; 0 where it has not yet."""
    try:
        return max((line["time"] for line in step_lines(run)), default=0)
    except (FileNotFoundError, json.JSONDecodeError):  # not there, or half a line
        return 0


def losses(run):
    """(step, loss) of each step, in the order of the file."""
    return [(line["step"], line["loss"]) for line in step_lines(run)]


def leaves(run):
    """Path -> array for everything in the run's last checkpoint."""
    import jax

    from qface_jax.runs.checkpoint import load_parts
    from qface_jax.train.state import TrainState

    fields = tuple(field.name for field in dataclasses.fields(TrainState))
    _, state = load_parts(run, "last", fields)
    return {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def differences(run, wanted, steps):
    """What of a finished run is not as in the undisturbed one."""
    want_losses, want_leaves = wanted
    problems = []
    got = losses(run)
    if [step for step, _ in got] != list(range(1, steps + 1)):
        problems.append("metrics.jsonl does not have each step once and in order")
    elif got != want_losses:
        problems.append("another loss")
    have = leaves(run)
    if have.keys() != want_leaves.keys():
        return [*problems, "other leaves in the checkpoint"]
    for name, leaf in want_leaves.items():
        other = have[name]
        same = (other.dtype, other.shape) == (leaf.dtype, leaf.shape)
        if not same or other.tobytes() != leaf.tobytes():
            problems.append(f"{name} differs")
    return problems


def verdict(outcome, run, wanted, steps):
    if outcome.status:
        return f"ended with status {outcome.status}"
    return "; ".join(differences(run, wanted, steps)) or "the same"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--signals", choices=SIGNALS, default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="qface-chaos-"))
    reference = folder / "undisturbed"
    plain = train(reference, args.steps)
    if plain.status:
        print(reference.with_suffix(".log").read_text(), file=sys.stderr)
        sys.exit(f"the undisturbed run ended with status {plain.status}: see {folder}")
    wanted = losses(reference), leaves(reference)
    print(f"undisturbed: {args.steps} steps, {plain.seconds:.0f} s", flush=True)
    print("round  signals                         restarts  seconds  verdict")
    times = [line["time"] for line in step_lines(reference)]
    failed = 0
    for number in range(args.rounds):
        run = folder / f"round-{number}"
        chaos = Chaos(
            random.Random(f"{args.seed} {number}"), SIGNALS[args.signals],
            run_seconds=plain.seconds, step_seconds=times[-1] - times[0],
        )  # fmt: skip
        outcome = train(run, args.steps, chaos)
        answer = verdict(outcome, run, wanted, args.steps)
        sent = " ".join(name.removeprefix("SIG") for name in outcome.sent) or "none"
        row = f"{number:5}  {sent:<30}  {outcome.restarts:8}  {outcome.seconds:7.0f}"
        print(f"{row}  {answer}", flush=True)
        failed += answer != "the same"
    if failed:
        sys.exit(f"{failed} of {args.rounds} rounds failed; the runs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
