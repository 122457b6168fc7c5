"""Flips random bits of a checkpoint's files and checks that none passes unseen.

    python benchmarks/bit_flips.py [--flips=200] [--seed=0] [--run=RUN] [--steps=6]

Each flip changes one bit of one file of the newest checkpoint of RUN (a copy of it; by
default of a small run that is trained first). Every other bit is drawn from all bytes
of the checkpoint, the others from a file that is drawn first, so that small files have
their turn. The checkpoint is then loaded in both ways there are: into this host's
memory, as evaluation and export do, and onto the devices, as a run that goes on. The
outcome is one of

    found     an error in one line that names the checkpoint
    harmless  all arrays come out bit for bit as they were saved
    SILENT    an array comes out different and nothing is said
    FAULT     any other exception, or the process ended
    HANG      no answer within --patience seconds

Exit status 1 if there is any of the last three.
"""

import argparse
import collections
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = (
    "model.backbone=tiny",
    "model.embedding_dim=16",
    "data.batch_size=16",
    "data.synthetic.identities=12",
    "data.synthetic.images_per_identity=4",
    "optim.warmup_steps=0",
    "eval.sets=()",
    "log.pictures=False",
)
BAD = ("SILENT", "FAULT", "HANG")


def train(run, steps):
    """Trains a small run of that many steps."""
    words = [f"--config.{word}" for word in (*SMALL, f"total_steps={steps}")]
    command = [sys.executable, "-m", "qface_jax.launch.main", "train", "--config=demo"]
    command += [f"--workdir={run}", f"--config.checkpoint.interval={steps}", *words]
    subprocess.run(command, check=True, env=environment(), capture_output=True)


def environment():
    return os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}


def loaders(run):
    """The two ways in which a checkpoint is loaded, as functions to path -> array."""
    import jax

    from qface_jax.runs import checkpoint
    from qface_jax.runs.saved_tree import leaves
    from qface_jax.train.state import ENCODERS

    (record,) = (run / "checkpoints").glob("*/digests/data.json")
    names = json.loads(record.read_text())["arrays"]
    fields = tuple(dict.fromkeys(name.split("/")[0] for name in names))

    def on_host():
        _, parts = checkpoint.load_parts(run, "last", fields)
        return leaves(parts)

    whole = checkpoint.load_parts(run, "last", fields)[1]
    place = jax.sharding.NamedSharding(
        jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec()
    )
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        dict.fromkeys(ENCODERS) | whole,  # where there is none, the state has None
    )

    def on_devices():
        with checkpoint.Checkpoints(run, keep=2) as checkpoints:
            return leaves(checkpoints.restore_latest(abstract))

    return on_host, on_devices


def serve(run):
    """Answers each line of standard input with the outcome of loading, as JSON."""
    import numpy as np

    from qface_jax.errors import UserError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed does not belong to the answers
    load = loaders(run)
    whole = {name: np.array(array).tobytes() for name, array in load[0]().items()}
    for loader in load:
        assert {n: np.asarray(a).tobytes() for n, a in loader().items()} == whole
    print(json.dumps({"arrays": len(whole)}), file=answers, flush=True)
    for _ in sys.stdin:
        outcome, said = "harmless", ""
        for loader in load:
            try:
                arrays = loader()
            except UserError as error:
                clear = "\n" not in str(error) and str(run) in str(error)
                outcome, said = ("found" if clear else "FAULT"), str(error)
            except BaseException as error:
                outcome, said = "FAULT", f"{type(error).__name__}: {error}"
            else:
                same = {n: np.asarray(a).tobytes() for n, a in arrays.items()} == whole
                if not same:
                    outcome, said = "SILENT", ""
            if outcome in BAD:
                break
        print(json.dumps({"outcome": outcome, "said": said}), file=answers, flush=True)


class Loader:
    """A process that loads the checkpoint whenever asked; started again if need be."""

    def __init__(self, run, patience):
        """Takes the run, and the seconds that an answer may take."""
        self._run, self._patience, self._process = run, patience, None

    def start(self):
        """Starts the process while the checkpoint is whole."""
        if self._process is None:
            command = [sys.executable, __file__, f"--serve={self._run}"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                stderr=subprocess.DEVNULL, env=environment(),
            )  # fmt: skip
            return json.loads(self._process.stdout.readline())
        return None

    def outcome(self):
        """Loads the checkpoint as it is now: {"outcome": ..., "said": ...}."""
        self._process.stdin.write(b"\n")
        ready, _, _ = select.select([self._process.stdout], [], [], self._patience)
        line = self._process.stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        self.stop()
        said = "" if ready else f"no answer in {self._patience:g} s"
        return {"outcome": "FAULT" if ready else "HANG", "said": said or "ended"}

    def stop(self):
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._process = None


def drawn_bit(chance, files, of_all):
    """A file and the number of a bit in it."""
    if of_all:
        path = chance.choices(files, [file.stat().st_size for file in files])[0]
    else:
        path = chance.choice(files)
    return path, chance.randrange(8 * path.stat().st_size)


def flip(path, bit):
    """Flips a bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def kind_of(path, folder):
    """The file's place in the checkpoint, without names that are drawn."""
    return re.sub(r"[0-9a-f]{32}", "*", str(path.relative_to(folder)))


def flips(run, count, chance, patience, say=print):
    """Yields (kind of file, outcome) of each flip; every bit is put back after it."""
    (record,) = (run / "checkpoints").glob("*/digests/data.json")
    folder = record.parents[1]
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    loader = Loader(run, patience)
    begun = loader.start()
    size = sum(file.stat().st_size for file in files)
    say(f"{len(files)} files, {size:,} bytes, {begun['arrays']} arrays", flush=True)
    for number in range(count):
        loader.start()
        path, bit = drawn_bit(chance, files, of_all=number % 2 == 0)
        flip(path, bit)
        began = time.monotonic()
        answer = loader.outcome()
        flip(path, bit)
        kind = kind_of(path, folder)
        if answer["outcome"] in BAD:
            say(f"{answer['outcome']}: {kind}, bit {bit}: {answer['said']}", flush=True)
        yield kind, answer | {"seconds": time.monotonic() - began}
    loader.start()
    last = loader.outcome()
    loader.stop()
    assert last["outcome"] == "harmless", f"the bits are back, yet: {last}"


def table(outcomes):
    """A row for each kind of file: how many flips came out how."""
    names = ("found", "harmless", *BAD)
    counts = collections.defaultdict(collections.Counter)
    for kind, answer in outcomes:
        counts[kind][answer["outcome"]] += 1
        counts["all"][answer["outcome"]] += 1
    width = max(map(len, counts))
    yield f"{'file':<{width}}  " + "  ".join(f"{name:>8}" for name in names)
    for kind in sorted(counts, key=lambda kind: (kind == "all", kind)):
        cells = "  ".join(f"{counts[kind][name]:>8}" for name in names)
        yield f"{kind:<{width}}  {cells}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return 0
    with tempfile.TemporaryDirectory(prefix="qface-bits-") as folder:
        run = Path(folder) / "run"
        if args.run:
            shutil.copytree(args.run, run)
        else:
            train(run, args.steps)
        began, chance = time.monotonic(), random.Random(args.seed)
        outcomes = list(flips(run, args.flips, chance, args.patience))
    print("\n".join(table(outcomes)))
    slowest = max(answer["seconds"] for _, answer in outcomes)
    print(
        f"{len(outcomes)} flips in {time.monotonic() - began:.0f} s, the slowest "
        f"{slowest:.1f} s"
    )
    said = {
        answer["said"].split("(")[-1][:60]: answer["said"] for _, answer in outcomes
    }
    print("some of what was said:", *list(filter(None, said.values()))[:6], sep="\n  ")
    return int(any(answer["outcome"] in BAD for _, answer in outcomes))


if __name__ == "__main__":
    sys.exit(main())
