"""Trains on storage that fails now and then, and compares with storage that does not.

    python benchmarks/failing_storage.py [--rate=0.05] [--slow=0.05] [--steps=40]
                                         [--writes]

The training set (a folder of images; the same imported) and the run lie
below a folder whose calls return EIO or ESTALE at random, or come late, by
faulty_storage.c (Linux, a C compiler). For each kind of source a run on good storage
and one on failing storage: both end with the same parameters, bit for bit, and the same
logged losses. Printed are the failures that were injected, the tries that were logged,
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
    "checkpoint.interval=10",
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


def compare(kind: str, data: Path, folder: Path, library: Path, given) -> bool:
    """Trains on good and on failing storage; prints a row; whether all was as it is."""
    good, bad = folder / f"{kind}-good", folder / f"{kind}-failing"
    done = train(data, good, steps=given.steps)
    if done.returncode:
        raise RuntimeError(done.stderr)
    count = folder.parent / f"{kind}.count"
    faults = Faults(given.rate, given.slow, given.seed, given.writes)
    started = time.perf_counter()
    done = train(
        data, bad, steps=given.steps, more=environment(library, folder, count, faults)
    )
    seconds = time.perf_counter() - started
    injected = count.read_bytes() if count.exists() else b""
    same = done.returncode == 0 and is_same(good, bad)
    print(
        f"{kind:<14}{injected.count(b'e'):>6}{injected.count(b's'):>8}"
        f"{injected.count(b'l'):>6}{done.stderr.count('trying again'):>8}"
        f"{seconds:>8.0f}  {'the same' if same else 'DIFFERS'}",
        flush=True,
    )
    if not same:
        print(done.stderr[-3000:])
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--slow", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writes", action="store_true", help="writing fails, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "storage"
        folder.mkdir()
        library = compiled(Path(name))
        print(f"{'source':<14}{'EIO':>6}{'ESTALE':>8}{'late':>6}{'logged':>8}{'s':>8}")
        rows = [
            compare(kind, data, folder, library, given)
            for kind, data in training_sets(folder).items()
        ]
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
