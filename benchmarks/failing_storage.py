"""Trains on storage that fails now and then, and compares with storage that does not.

    python benchmarks/failing_storage.py [--rate=0.05] [--slow=0.05] [--steps=40]
                                         [--run-rate=0.002]

Calls on what lies below a folder return EIO or ESTALE at random, or come late, by
faulty_storage.c (Linux, a C compiler). A run on good storage is compared with runs
whose training set lies on failing storage (a folder of images; the same imported), and
with one whose own folder does: there opening, writing, syncing and renaming fail as
well, at --run-rate of the calls, of which a checkpoint takes some hundred. All end with
the same parameters, bit for bit, and the same logged losses. Printed are the failures
that were injected, the tries that were logged, checkpoints that were lost on the way,
and the time. Exit status 1 if anything differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.runs.checkpoint import load_parts

SOURCE = Path(__file__).parent / "faulty_storage.c"
SMALL = (
    "model.backbone=tiny",
    "model.embedding_dim=16",
    "data.batch_size=16",
    "optim.warmup_steps=0",
    "eval.synthetic.identities=6",
    "eval.synthetic.pairs=20",
    "eval.resolutions=(112,14)",
    "eval.batch_size=16",
    "checkpoint.interval=5",
    "log.interval=1",
    "log.pictures=False",
    "data.source=auto",
)


class Faults(NamedTuple):
    """How often storage fails.

    Attributes:
        rate: Share of the calls that fail.
        slow: Share of the reads that take 50 ms longer.
        seed: Of the draws.
        writes: Whether writing fails, too.
    """

    rate: float
    slow: float
    seed: int
    writes: bool


def compiled(folder: Path) -> Path:
    """Compiles the library that fails; returns where it lies."""
    library = folder / "faulty_storage.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"],
        check=True,
    )
    return library


def environment(library: Path, folder: Path, count: Path, faults: Faults) -> dict:
    """The variables with which calls on what lies below a folder fail."""
    return {
        "LD_PRELOAD": str(library),
        "FAULTY_FOLDER": f"{folder}/",
        "FAULTY_RATE": str(faults.rate),
        "FAULTY_SLOW": str(faults.slow),
        "FAULTY_SLOW_MS": "50",
        "FAULTY_SEED": str(faults.seed),
        "FAULTY_WRITES": str(int(faults.writes)),
        "FAULTY_COUNT": str(count),
    }


def qface(*words: object, more: dict[str, str] | None = None):
    return subprocess.run(
        [sys.executable, "-m", "qface_jax.launch.main", *map(str, words)],
        env=os.environ | (more or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def train(data: Path, run: Path, *, steps: int, more: dict[str, str] | None = None):
    words = [f"--config.{word}" for word in (*SMALL, f"data.path={data}")]
    words.append(f"--config.total_steps={steps}")
    return qface("train", "--config=demo", f"--workdir={run}", *words, more=more)


def training_sets(folder: Path) -> dict[str, Path]:
    """Draws a small training set: a folder of images, and the same imported."""
    source = SyntheticFaces(identities=12, images_per_identity=4, seed=0)
    encoded, labels = source.fetch(np.arange(len(source)))
    images = folder / "images"
    for index, (image, label) in enumerate(zip(encoded, labels, strict=True)):
        target = images / f"{label:03d}" / f"{index}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image)
    done = qface("data", "import", images, folder / "records")
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {"folder": images, "array_record": folder / "records"}


def logged(run: Path) -> dict[int, float]:
    """Loss of each step, as it stands in the log."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def is_same(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same parameters and logged the same losses."""
    states = [load_parts(path, "last", ("params",)) for path in (run, other)]
    (step, one), (other_step, two) = states
    leaves = [jax.tree.leaves(tree) for tree in (one, two)]
    return (
        step == other_step
        and logged(run) == logged(other)
        and all(map(np.array_equal, *leaves))
    )


def compare(name: str, data: Path, good: Path, failing: Path, library, faults, steps):
    """Trains on failing storage; prints a row; returns whether all was as it is.

    Args:
        name: Of the row.
        data: Training set.
        good: Run with the same data on storage that does not fail.
        failing: Folder below which calls fail.
        library: What fails.
        faults: How often.
        steps: Of the run.
    """
    count = good.parent / f"{name}.count"
    run = failing / "run" if faults.writes else good.parent / f"{name}-run"
    more = environment(library, failing, count, faults)
    started = time.perf_counter()
    done = train(data, run, steps=steps, more=more)
    seconds = time.perf_counter() - started
    injected = count.read_bytes() if count.exists() else b""
    same = done.returncode == 0 and is_same(good, run)
    print(
        f"{name:<14}{injected.count(b'e'):>6}{injected.count(b's'):>8}"
        f"{injected.count(b'l'):>6}{done.stderr.count('trying again'):>8}"
        f"{done.stderr.count('could not be saved'):>6}{seconds:>8.0f}  "
        f"{'the same' if same else 'DIFFERS'}",
        flush=True,
    )
    if not same:
        print(done.stderr[-3000:])
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--run-rate", type=float, default=0.002)
    parser.add_argument("--slow", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = compiled(folder)
        sets = training_sets(folder)
        good = {kind: folder / f"{kind}-good" for kind in sets}
        for kind, data in sets.items():
            done = train(data, good[kind], steps=given.steps)
            if done.returncode:
                raise RuntimeError(done.stderr)
        reads = Faults(given.rate, given.slow, given.seed, writes=False)
        writes = Faults(given.run_rate, 0, given.seed, writes=True)
        cases = [(kind, data, good[kind], data, reads) for kind, data in sets.items()]
        cases.append(("run", sets["folder"], good["folder"], folder / "bad", writes))
        print("training on   EIO  ESTALE  late  logged  lost       s")
        same = []
        for kind, data, other, failing, faults in cases:
            failing.mkdir(exist_ok=True)
            same.append(
                compare(kind, data, other, failing, library, faults, given.steps)
            )
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
