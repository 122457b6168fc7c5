"""Runs the commands on hostile and damaged files, and counts how each run ended.

    python benchmarks/hostile_inputs.py FOLDER [--only=PATTERN] [--limit=90]

FOLDER holds files in any of these forms, each tried by the commands that take it:
`*.onnx`, `*.safetensors`, `*.pt`, `*.pth`, `*.ckpt` (import), folders of folders of
pictures (inspect, import, import --skip-broken, score), folders of pictures (score),
lists of pairs `*.txt`, `*.csv` (inspect with a folder of drawn faces, or with each of
the folders of faces beside the list), `*.bin` (inspect), folders with a `.rec` file
(inspect, import). Sub-folders that are none of these are looked into.

A run is good if it succeeds, or refuses with status 2 and one message. It is bad if it
ends in a traceback, by a signal, after --limit seconds, prints control characters, or
takes over 1 GB more memory than the same command on a good input. The exit status is 1
if any run is bad. What succeeds without a word about the file is listed, to be judged.

Every run is a process of its own, so that none can harm another; to save the seconds of
loading JAX and TensorFlow it is forked from one process that has imported them and has
used neither. Memory is the peak resident size of that process, times are of one run at
a time.
"""

import argparse
import fnmatch
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WEIGHTS = (".onnx", ".safetensors", ".pt", ".pth", ".ckpt")
LISTS = (".txt", ".csv")
EXTRA_MEMORY = 1e9  # bytes above a good input's
MOST_MEMORY = 6e9  # bytes at which a run is ended, so that the machine stays usable
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
COUNTED = re.compile(
    r"\bbroken\b.*: [1-9]|[1-9]\d* skipped|left out|unreadable|not_an_image|warning:"
)
KINDS = (
    "passed",
    "counted",
    "refused",
    "noisy",
    "traceback",
    "crash",
    "hang",
    "memory",
)
BAD = KINDS[3:]


class Run(NamedTuple):
    """One command on one input.

    Attributes:
        file: The input, within its folder.
        command: What was run, in a word or two.
        words: Arguments of `qface`.
    """

    file: str
    command: str
    words: list[str]


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        file: As in `Run`.
        command: As in `Run`.
        kind: One of KINDS.
        status: Exit status; negative: a signal.
        seconds: From the fork to the end.
        bytes: Peak resident memory.
        said: The last line that the command printed on the standard error.
    """

    file: str
    command: str
    kind: str
    status: int
    seconds: float
    bytes: int
    said: str


def imported_modules():
    """Imports what the commands import, and starts no computation."""
    warnings.filterwarnings("ignore", message=".*os.fork.*")
    from qface_jax.launch import backend

    backend.prepare()
    import onnx.inliner
    import onnxruntime
    import safetensors
    import tensorflow_datasets

    from qface_jax.api import loading
    from qface_jax.data_pipelines.sources import mxnet_source
    from qface_jax.data_pipelines.tools import importer, inspection, sample_images
    from qface_jax.evals import results
    from qface_jax.inference import embedder, score_images
    from qface_jax.launch import main
    from qface_jax.report import page
    from qface_jax.train import evaluation
    from qface_jax.weights import importing, onnx_file, parity

    used = (
        onnx.inliner, onnxruntime, safetensors, tensorflow_datasets, loading, importer,
        inspection, sample_images, mxnet_source, results, embedder, score_images, page,
        evaluation, importing, onnx_file, parity,
    )  # fmt: skip
    assert all(used)
    return main


def resident(pid):
    """Returns the resident memory of a process in bytes."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def forked(command, words, *, folder, limit):
    """Runs `qface WORDS` in a fork; returns status, seconds, bytes, out, err."""
    out, err = folder / "out", folder / "err"
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
        os.chdir(folder)
        # What is printed goes through Python's own buffers as in a fresh process.
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", 1)
        status = 1
        try:
            status = command.main(words)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            print(f"Traceback: {error!r}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    while True:
        ended, wait_status, usage = os.wait4(pid, os.WNOHANG)
        seconds = time.monotonic() - begin
        if ended:
            break
        if seconds > limit or resident(pid) > MOST_MEMORY:
            os.killpg(pid, signal.SIGKILL)
            _, wait_status, usage = os.wait4(pid, 0)
            break
        time.sleep(0.02)
    texts = [path.read_text(errors="replace") for path in (out, err)]
    status = os.waitstatus_to_exitcode(wait_status)
    return status, time.monotonic() - begin, usage.ru_maxrss * 1024, *texts


def judged(run, good_bytes, limit, status, seconds, size, out, err):
    """Returns the outcome of a run."""
    lines = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if ": error: " in line]
    if seconds > limit:
        kind = "hang"
    elif size > good_bytes + EXTRA_MEMORY:
        kind = "memory"
    elif "Traceback" in err or "fault of qface_jax itself" in err:
        kind = "traceback"
    elif status not in (0, 2) or (status == 2 and len(errors) != 1):
        kind = "crash"
    elif CONTROL.search(re.sub("\r(?!\n)", "", out + err)) or len(err) > 20_000:
        kind = "noisy"
    elif status == 2:
        kind = "refused"
    else:
        kind = "counted" if COUNTED.search(out + err) else "passed"
    said = errors[-1] if errors else lines[-1] if lines else ""
    return Outcome(run.file, run.command, kind, status, seconds, size, said)


def faces(folder, *, people=3, images=2):
    """Writes drawn faces, folder/pNN/pNN_000N.jpg; returns the folder."""
    from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces

    source = SyntheticFaces(identities=people, images_per_identity=images, seed=0)
    encoded, labels = source.fetch(np.arange(people * images))
    for row, (image, label) in enumerate(zip(encoded, labels, strict=True)):
        name = f"p{label + 1:02d}"
        path = folder / name / f"{name}_{row % images + 1:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(image)).save(path, quality=95)
    return folder


def small_network(path):
    """Writes an ONNX network of one layer, which every other one is measured by."""
    import onnx
    from onnx import helper, numpy_helper

    values = np.random.default_rng(0).normal(0, 0.01, (8, 3 * 112 * 112))
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("x", 1, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(values.astype(np.float32), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path
    )
    return path


def is_folder(path):
    return path.is_dir() and not path.is_symlink()


def files_of(folder):
    return [child for child in sorted(folder.iterdir()) if not is_folder(child)]


def looks_like_people(folder):
    """Whether a folder holds folders of files, and no list beside them."""
    children = sorted(folder.iterdir())
    inside = [child for child in children if is_folder(child)]
    lists = any(
        child.suffix in (*LISTS, *WEIGHTS, ".bin", ".rec") for child in children
    )
    sets = any(list(child.glob("*.rec")) for child in inside)
    return bool(inside) and not (lists or sets) and any(map(files_of, inside))


def runs_of(path, root, drawn, judge):
    """Yields the runs for what lies at a path."""
    name = str(path.relative_to(root))
    if path.suffix in WEIGHTS:
        yield Run(name, "import", ["import", str(path), "run"])
    elif path.suffix == ".bin":
        yield Run(name, "inspect", ["data", "inspect", str(path)])
    elif path.suffix in LISTS:
        beside = [
            child for child in sorted(path.parent.glob("f_*")) if is_folder(child)
        ]
        beside = [child for child in beside if list(child.glob("p01/p01_0001.*"))]
        for folder in beside or [drawn]:
            words = ["data", "inspect", "--source=pairs", f"{path}::{folder}"]
            yield Run(name, f"inspect ::{folder.name}", words)
            if folder != (beside or [drawn])[0]:
                continue
            sets = f"--config.eval.sets=({f'{path}::{folder}'!r},)"
            few = ["--config.eval.resolutions=(112,)", "--config.eval.batch_size=4"]
            words = ["eval", f"--checkpoint={judge}", sets, *few]
            yield Run(name, f"eval ::{folder.name}", words)
    elif is_folder(path) and (list(path.glob("*.rec")) or looks_like_people(path)):
        yield Run(name, "inspect", ["data", "inspect", str(path)])
        yield Run(name, "import set", ["data", "import", str(path), "out_set"])
        skip = ["data", "import", str(path), "out_set", "--skip-broken"]
        yield Run(name, "import set, skip", skip)
        score = ["quality", "score", str(judge), str(path), "--out=scores.csv"]
        yield Run(name, "score", [*score, "--batch-size=4"])
    elif is_folder(path):
        inside = sorted(path.iterdir())
        known = [
            child for child in inside if child.suffix in (*LISTS, *WEIGHTS, ".bin")
        ]
        if known or any(is_folder(child) for child in inside):
            for child in inside:
                if child in known or is_folder(child):
                    yield from runs_of(child, root, drawn, judge)
        elif inside:
            score = ["quality", "score", str(judge), str(path), "--out=scores.csv"]
            yield Run(name, "score", [*score, "--batch-size=4"])


def table(outcomes):
    """Returns lines: counts by kind of input, then the totals."""
    groups = {}
    for outcome in outcomes:
        groups.setdefault(outcome.command.split(" ::")[0], []).append(outcome)
    groups["all"] = outcomes
    lines = [f"{'command':18}{'tried':>6}" + "".join(f"{kind:>10}" for kind in KINDS)
             + f"{'peak GB':>9}{'longest s':>10}"]  # fmt: skip
    for name, group in groups.items():
        counts = Counter(outcome.kind for outcome in group)
        lines.append(
            f"{name:18}{len(group):6}" + "".join(f"{counts[kind]:10}" for kind in KINDS)
            + f"{max(o.bytes for o in group) / 1e9:9.2f}"
            + f"{max(o.seconds for o in group):10.1f}"
        )  # fmt: skip
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="of the inputs")
    parser.add_argument("--limit", type=float, default=90.0, help="seconds of a run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all outcomes")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="hostile-"))
    command = imported_modules()
    serial = iter(range(10**6))

    def fresh():
        folder = work / f"{next(serial)}"
        folder.mkdir()
        return folder

    def run_in(folder, words):
        return forked(command, words, folder=folder, limit=args.limit)

    good = faces(work / "good")
    network, judge = small_network(work / "good.onnx"), work / "judge"
    status, *_, err = run_in(fresh(), ["import", str(network), str(judge)])
    assert status == 0, err
    bases = (network, good)
    (work / "pairs.txt").write_text("p01 1 2\np01 1 p02 1\np02 1 2\np02 1 p03 2\n")
    good_bytes = {}
    for path in bases:
        for run in runs_of(path, work, good, judge):
            good_bytes[run.command] = run_in(fresh(), run.words)[2]
    for run in runs_of(work / "pairs.txt", work, good, judge):
        size = run_in(fresh(), run.words)[2]
        good_bytes[run.command.split(" ::")[0]] = size
    outcomes = []
    for root in args.folder:
        root = root.absolute()
        for path in sorted(root.iterdir()):
            for run in runs_of(path, root, good, judge):
                if not fnmatch.fnmatch(run.file, args.only):
                    continue
                folder = fresh()
                base = good_bytes[run.command.split(" ::")[0]]
                outcome = judged(run, base, args.limit, *run_in(folder, run.words))
                outcomes.append(outcome)
                print(
                    f"{outcome.kind:9} {outcome.seconds:6.1f} s "
                    f"{outcome.bytes / 1e9:5.2f} GB  {outcome.command}: "
                    f"{outcome.file!r}: {CONTROL.sub('?', outcome.said)[:230]}",
                    flush=True,
                )
                shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(["", *table(outcomes)]))
    if args.json:
        args.json.write_text(json.dumps([o._asdict() for o in outcomes], indent=1))
    shutil.rmtree(work, ignore_errors=True)
    return any(outcome.kind in BAD for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
