"""TinyFace and QMUL-SurvFace at full size: seconds and memory after the embedding.

    python benchmarks/identification_scale.py [--only tinyface survface]

Both trees are made in a temporary folder, with empty files, the lists of the published
sizes and random features of 512 numbers, a person's near one another. Ours is the
protocol as `qface eval` runs it. Plain is NumPy as the published programs do it: the
whole matrix of scores in float32, every row sorted, for SurvFace a grid of 1,000
thresholds. Each runs in a process of its own; what drawing the features takes is
subtracted.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH = 512
BLOCK = 16384  # features that are drawn at a time
NOISE = {"tinyface": 3.0, "survface": 4.0}  # of a feature, about its person's
RANKS = (1, 5, 10, 20, 50)
FPIRS = (0.3, 0.2, 0.1, 0.01)


def touch(folder, names):
    """Makes empty files."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


def save_lists(path, **variables):
    """Writes a .mat file; texts become cells."""
    import scipy.io

    cells = {
        name: np.array(values, object).reshape(-1, 1) if isinstance(values[0], str)
        else values
        for name, values in variables.items()
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, cells)


def make_tinyface(root):
    """Makes the test set: 4,443 mates, 153,428 distractors, 3,728 probes."""
    rng = np.random.default_rng(0)
    test = root / "tinyface" / "Testing_Set"
    for folder, variable, count in (
        ("Gallery_Match", "gallery", 4443),
        ("Probe", "probe", 3728),
    ):
        ids = np.concatenate([np.arange(2569), rng.integers(0, 2569, count - 2569)])
        names = [f"{person}_{i}.jpg" for i, person in enumerate(ids)]
        touch(test / folder, names)
        lists = {f"{variable}_set": names, f"{variable}_ids": ids[:, None]}
        file = {"gallery": "gallery_match", "probe": "probe"}[variable]
        save_lists(test / f"{file}_img_ID_pairs.mat", **lists)
    touch(test / "Gallery_Distractor", (f"{i}_face.jpg" for i in range(153428)))


def make_survface(root):
    """Makes both test sets: 3,000 people, 242,453 images, 10,051 images of pairs."""
    rng = np.random.default_rng(0)
    test = root / "Face_Identification_Test_Set"
    for name, count in (("gallery", 60294), ("mated_probe", 60423)):
        ids = np.concatenate([np.arange(3000), rng.integers(0, 3000, count - 3000)])
        names = [f"{7 * person}_cam1_{i}.jpg" for i, person in enumerate(ids)]
        touch(test / name, names)
        lists = {f"{name}_set": names, f"{name}_ids": 1 + ids[:, None]}
        save_lists(test / f"{name}_img_ID_pairs.mat", **lists)
    people = (f"{i}_cam1_1.jpg" for i in range(121736 - 28476))
    touch(test / "unmated_probe", people)
    for i in range(28476):
        (test / "unmated_probe" / f"distractors_{i}.jpg").touch()
    make_pairs(root / "Face_Verification_Test_Set", rng)


def make_pairs(folder, rng):
    """Makes the lists of 5,320 pairs of each kind, of 10,051 images."""
    import scipy.io

    names = np.array([f"{i % 3350}_cam1_{i // 3350}.jpg" for i in range(10051)], object)
    touch(folder / "verification_images", names)
    first = rng.permutation(3350 * 2)[:5320]
    pairs = {
        "positive": np.stack([first, first + 3350], axis=1),
        "negative": np.stack([first, (first + rng.integers(1, 3350, 5320)) % 3350], 1),
    }
    for kind, numbers in pairs.items():
        lists = {f"{kind}_pairs_names": names[numbers]}
        scipy.io.savemat(folder / f"{kind}_pairs_names.mat", lists)


class Drawn:
    """Features that are drawn when they are asked for.

    Attributes:
        seconds: that the drawing has taken.
    """

    def __init__(self, labels, noise):
        self._labels, self._noise, self.seconds = labels, noise, 0.0
        rng = np.random.default_rng(1)
        size = (labels.max() + 1, WIDTH)
        self._centres = rng.standard_normal(size, np.float32)

    def rows(self, rows):
        """Returns the features of images: their person's and noise; or noise alone."""
        began = time.perf_counter()
        rows = np.asarray(rows)
        features = np.empty((len(rows), WIDTH), np.float32)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            rng = np.random.default_rng(2 + int(block[0]))
            drawn = rng.standard_normal((len(block), WIDTH), np.float32)
            drawn *= self._noise
            labels = self._labels[block]
            drawn[labels >= 0] += self._centres[labels[labels >= 0]]
            features[start : start + len(block)] = drawn
        self.seconds += time.perf_counter() - began
        return features

    def embed(self, request):
        """Answers a protocol's request."""
        from qface_jax.evals.embedded import Embedded

        features = self.rows(request.rows)
        return Embedded(features, {"norm": np.ones(len(features))})


def labels_of(name, opened):
    """Returns the identity of each image of the set in its order; -1: of nobody."""
    if name == "tinyface":
        return np.concatenate([opened.gallery_ids, opened.probe_ids])
    strangers = np.full(opened.strangers, -1)
    pairs = [int(file.rpartition("/")[2].partition("_")[0])
             for file in opened.images.files[opened.positive.min() :]]  # fmt: skip
    return np.concatenate([opened.gallery_ids, opened.probe_ids, strangers, pairs])


def unit_float32(features):
    """Returns features of unit length, in place."""
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def plain_tinyface(opened, drawn):
    """Returns mAP and ranks from the whole matrix, each row sorted."""
    g = len(opened.gallery_ids)
    gallery = unit_float32(drawn.rows(np.arange(g)))
    probes = unit_float32(drawn.rows(np.arange(g, g + len(opened.probe_ids))))
    scores = probes @ gallery.T
    precision, first = [], []
    for row, identity in zip(scores, opened.probe_ids, strict=True):
        order = np.argsort(-row, kind="stable")
        places = np.flatnonzero(opened.gallery_ids[order] == identity)
        found = np.arange(len(places))
        before = np.where(places == 0, 1, found / np.maximum(places, 1))
        precision.append(np.mean((before + (found + 1) / (places + 1)) / 2))
        first.append(places[0])
    ranks = {f"rank_{k}": float(np.mean(np.array(first) < k)) for k in RANKS}
    return {"map": float(np.mean(precision)), **ranks}


def plain_survface(opened, drawn):
    """Returns TPIR20 from whole matrices and a grid of 1,000 thresholds."""
    g, m = len(opened.gallery_ids), len(opened.probe_ids)
    gallery = unit_float32(drawn.rows(np.arange(g)))
    templates = unit_float32(
        np.stack([gallery[opened.gallery_ids == k].mean(axis=0) for k in range(3000)])
    )
    del gallery
    mated = unit_float32(drawn.rows(np.arange(g, g + m))) @ templates.T
    top = np.argsort(-mated, axis=1)[:, :20]
    within = np.any(top == opened.probe_ids[:, None], axis=1)
    score = mated[np.arange(m), opened.probe_ids]
    del mated, top
    others = np.arange(g + m, g + m + opened.strangers)
    alarm = (unit_float32(drawn.rows(others)) @ templates.T).max(axis=1)
    grid = np.linspace(alarm.min(), alarm.max(), 1000)
    fpir = np.array([np.mean(alarm >= t) for t in grid])
    tpir = np.array([np.mean(within & (score >= t)) for t in grid])
    return {
        f"tpir20_fpir_{100 * wanted:g}": float(tpir[np.abs(fpir - wanted).argmin()])
        for wanted in FPIRS
    }


def work(name, kind, folder):
    """Prints seconds, memory and numbers of one variant, as JSON."""
    from qface_jax.data_pipelines.sets.survface import open_survface
    from qface_jax.data_pipelines.sets.tinyface import open_tinyface
    from qface_jax.evals.protocols.protocol import EvalSettings
    from qface_jax.evals.protocols.survface import SurvFace
    from qface_jax.evals.protocols.tinyface import TinyFace
    from qface_jax.processes.share import ALONE

    set_of = {"tinyface": ("raw", TinyFace), "survface": ("all", SurvFace)}
    part, protocol = set_of[name]
    began = time.perf_counter()
    settings = EvalSettings(path=folder, resize="stretch")
    benchmark = protocol(settings, part)
    opening = time.perf_counter() - began
    base = Path(folder)
    opened = open_tinyface(base, part) if part == "raw" else open_survface(base)
    drawn = Drawn(labels_of(name, opened), NOISE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if kind == "ours":
        result = benchmark.evaluate(drawn.embed, ALONE)
        numbers, whole = result.scalars, result.manifest["whole"]
    else:
        plain = {"tinyface": plain_tinyface, "survface": plain_survface}[name]
        numbers, whole = plain(opened, drawn), None
    seconds = time.perf_counter() - began - drawn.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak": peak, "before": before,
                      "opening": opening, "whole": whole,
                      "numbers": numbers}))  # fmt: skip


def main():
    """Runs what was asked for and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("tinyface", "survface")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.worker)
        return
    makers = {"tinyface": make_tinyface, "survface": make_survface}
    print("set, way          seconds  peak GiB  (before)  opened in s")
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            makers[name](Path(folder))
            for kind in ("ours", "plain"):
                command = [sys.executable, __file__, "--worker", name, kind, folder]
                out = subprocess.run(
                    command, check=True, capture_output=True, text=True
                )
                found = json.loads(out.stdout)
                print(f"{name + ', ' + kind:16} {found['seconds']:8.1f} "
                      f"{found['peak'] / 2**20:9.2f} {found['before'] / 2**20:9.2f} "
                      f"{found['opening']:12.1f}", flush=True)  # fmt: skip
                shown = {k: round(100 * v, 2) for k, v in found["numbers"].items()}
                print(f"    whole: {found['whole']}; {shown}", flush=True)


if __name__ == "__main__":
    main()
