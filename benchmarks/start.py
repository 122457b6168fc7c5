"""Seconds from Enter to the first step of the demo, and to other commands' first line.

    python benchmarks/start.py [--rounds=3]

Each is a process of its own. The demo takes one step, without evaluation and pictures:
once with an empty compilation cache, then with a full one. Printed are the medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

QFACE = [sys.executable, "-m", "qface_jax.launch.main"]
ONE_STEP = {
    "total_steps": 1,
    "optim.warmup_steps": 0,
    "eval.sets": "()",
    "log.pictures": False,
}


def first_line(words, caches, begins=""):
    """Seconds until a command prints a line that begins so; it then runs to its end."""
    environment = {**os.environ, "XDG_CACHE_HOME": caches}
    began, seconds = time.perf_counter(), None
    with subprocess.Popen(
        [*QFACE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        for line in process.stdout:
            if seconds is None and line.startswith(begins):
                seconds = time.perf_counter() - began
    if process.returncode or seconds is None:
        raise SystemExit(f"qface {' '.join(words)}: status {process.returncode}")
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    settings = [f"--config.{name}={value}" for name, value in ONE_STEP.items()]
    with tempfile.TemporaryDirectory() as folder:
        caches = f"{folder}/caches"

        def train(number):
            words = ["train", "--config=demo", f"--workdir={folder}/run{number}"]
            return first_line([*words, *settings], caches, "step 1/")

        print(f"train, first step, empty cache: {train(0):.1f} s")
        warm = statistics.median(train(number) for number in range(1, rounds + 1))
        print(f"train, first step, full cache: {warm:.1f} s")
        for words in (["--help"], ["report", f"{folder}/run0"]):
            times = [first_line(words, caches) for _ in range(rounds)]
            print(f"{words[0]}, first line: {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
