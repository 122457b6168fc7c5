"""A gallery of a million searched on this CPU: ours beside FAISS, and the whole matrix.

    python benchmarks/identify.py [--gallery 1000000] [--probes 1000] [--rounds 3]

Random unit vectors of 512 numbers, the ten nearest entries of each probe. Ours is
`qface_jax.evals.measures.nearest`, what `qface identify` runs: float32, whatever may be
among the ten again in float64. FAISS is `IndexFlatIP` (pip install faiss-cpu; left out
where it is not installed): float32. Blocks is NumPy, a block's product and partition at
a time, in float32. Each runs in a process of its own, one round after another; the
memory is the largest over what the vectors themselves take.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time

import numpy as np

WIDTH, TOP = 512, 10
BLOCK = 16384  # vectors that are drawn, or searched by NumPy, at a time


def drawn(count, seed):
    """Unit vectors float32 [count, 512]; never more than a block of them twice."""
    rng, vectors = np.random.default_rng(seed), np.empty((count, WIDTH), np.float32)
    for start in range(0, count, BLOCK):
        rows = vectors[start : start + BLOCK]
        rng.standard_normal(out=rows, dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors


def ours(gallery, probes):
    from qface_jax.evals.measures.nearest import nearest

    return nearest(gallery, probes, TOP).row


def with_faiss(gallery, probes):
    import faiss

    index = faiss.IndexFlatIP(WIDTH)
    index.add(gallery)
    return index.search(probes, TOP)[1]


def blocks(gallery, probes):
    best = np.full((len(probes), TOP), -np.inf, np.float32)
    rows = np.zeros((len(probes), TOP), np.int64)
    for start in range(0, len(gallery), BLOCK):
        scores = np.concatenate([best, probes @ gallery[start : start + BLOCK].T], 1)
        kept = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
        found = np.where(
            kept < TOP,
            np.take_along_axis(rows, np.minimum(kept, TOP - 1), 1),
            start + kept - TOP,
        )
        best, rows = np.take_along_axis(scores, kept, 1), found
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(rows, order, 1)


WAYS = {"ours": ours, "FAISS flat": with_faiss, "NumPy blocks": blocks}


def peak():
    """Largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def worker(name, args):
    """Searches once; prints seconds, memory and a digest of what was found."""
    gallery, probes = drawn(args.gallery, 0), drawn(args.probes, 1)
    way = WAYS[name]
    way(gallery[:1000], probes[:2])  # imports, and threads that start
    before, start = peak(), time.perf_counter()
    rows = way(gallery, probes)
    seconds = time.perf_counter() - start
    print(
        json.dumps({"seconds": seconds, "mib": peak() - before, "rows": rows.tolist()})
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args)
    ways = [name for name in WAYS if name != "FAISS flat"]
    if importlib.util.find_spec("faiss"):
        ways.insert(1, "FAISS flat")
    else:
        print("FAISS is not installed: pip install faiss-cpu to compare with it")
    vectors = args.gallery * WIDTH * 4 / 2**20
    print(f"{args.gallery:,} x {args.probes:,}, {WIDTH} wide ({vectors:,.0f} MiB)")
    runs = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name in ways:
            words = [f"--{key}={getattr(args, key)}" for key in ("gallery", "probes")]
            done = subprocess.run(
                [sys.executable, __file__, f"--worker={name}", *words],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            runs[name].append(json.loads(done.stdout))
    reference = np.array(runs["ours"][0]["rows"])
    for name in ways:
        seconds = sorted(run["seconds"] for run in runs[name])
        other = (np.array(runs[name][0]["rows"]) != reference).sum()
        print(
            f"{name:<13} {seconds[len(seconds) // 2]:7.1f} s ({seconds[0]:.1f} to "
            f"{seconds[-1]:.1f}), {max(run['mib'] for run in runs[name]):7,.0f} MiB "
            f"more, {other:,} of {reference.size:,} entries other than ours"
        )


if __name__ == "__main__":
    main()
