"""Protocols at full size on random features, beside the published way, on this CPU.

    python benchmarks/protocol_scale.py [ijbc] [--share 1.0]

Each way runs in a process of its own, which measures the seconds after embedding and
the highest resident memory. Features are drawn as they are asked for. The published way
is NumPy and scikit-learn (which must be installed), on a share of the images and pairs
where --share says so.

ijbc: 23,124 templates of 469,375 images, 15,658,489 pairs. Ours judges eight variants
of the templates and both 1:N galleries with their union; the published way (insightface
eval_ijbc.py) one variant of 1:1.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np

DIM = 512
POOL = 16_384  # rows of noise that are used again
FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SEED = 7


class RandomIjbc:
    """Lists of the size of IJB-C, and features of its images row by row.

    Attributes:
        templates: of each image, galleries first, [n].
        media: of each image, [n].
        detector: score of each image, [n].
        left: first template of each pair, int32 [p].
        right: second one, int32 [p].
        genuine: whether they are of one person, bool [p].
        subjects: of each template, [t].
        galleries: templates in both.
    """

    def __init__(self, share: float):
        """Draws the lists; `share` of the probes, images and pairs."""
        rng = np.random.default_rng(SEED)
        sizes = np.rint(share * np.array([469_375, 19_593, 15_658_489])).astype(int)
        images, probes, pairs = sizes.tolist()
        self.galleries, people = (1_772, 1_759), 3_531
        self.subjects = np.r_[np.arange(people), rng.integers(0, people, probes)]
        count = people + probes
        more = rng.geometric(0.02, count)
        extra = rng.choice(count, max(images - count, 0), p=more / more.sum())
        self.templates = rng.permutation(np.r_[np.arange(count), extra])
        self.media = rng.integers(0, 8, len(self.templates))
        self.detector = rng.uniform(0.1, 1, len(self.templates))
        # A full cycle through all cells of gallery and probes, in no order.
        cells = people * probes
        step = next(
            s for s in range(int(0.618 * cells), cells) if np.gcd(s, cells) == 1
        )
        cell = np.arange(pairs + pairs // 500 + 1, dtype=np.int64) * step % cells
        other = self.subjects[people + cell % probes] != cell // probes
        cell = cell[other][: pairs - probes]
        mates = self.subjects[people:] * probes + np.arange(probes)
        cell = np.sort(np.r_[cell, mates])  # as the reader has them
        self.left = (cell // probes).astype(np.int32)
        self.right = (people + cell % probes).astype(np.int32)
        self.genuine = self.subjects[self.left] == self.subjects[self.right]
        self._centres = rng.standard_normal((people, DIM), np.float32)
        self._noise = rng.standard_normal((POOL, DIM), np.float32)

    def features(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns raw features of images and of their mirror images, float32 [k, d]."""
        own = self._centres[self.subjects[self.templates[rows]]]
        common = 2 * self._noise[self.templates[rows] * 31 % POOL]
        return tuple(
            own + common + 3 * self._noise[(rows * factor + 11) % POOL]
            for factor in (5, 13)
        )


def _clocks() -> np.ndarray:
    """Returns seconds on the wall and of all cores of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def ours_ijbc(data: RandomIjbc) -> dict:
    """Evaluates the protocol; returns seconds and the rates of both rules."""
    from qface_jax.data_pipelines.sets import ijb as lists_of_ijb
    from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
    from qface_jax.data_pipelines.sets.ijb_files import Enrolled
    from qface_jax.evals.protocols.ijb import Ijb
    from qface_jax.evals.protocols.protocol import EvalSettings
    from qface_jax.processes.share import ALONE

    n, people = len(data.templates), sum(data.galleries)
    first, second = np.split(np.arange(people), data.galleries[:1])
    probes = np.arange(people, len(data.subjects))
    lists = lists_of_ijb.Lists(
        [str(row) for row in range(n)],
        np.zeros((n, 5, 2), np.float32),
        data.detector,
        np.arange(len(data.subjects)),
        data.templates,
        data.media,
        data.left,
        data.right,
        data.genuine,
        tuple(
            Enrolled(part, data.subjects[part], len(part)) for part in (first, second)
        ),
        Enrolled(probes, data.subjects[probes], len(probes)),
        [],
    )
    facts = lists_of_ijb.facts(lists_of_ijb.IJBC, "random", lists) | {"aligner": ""}
    images = BenchmarkImages("ijbc", "random", lists.names, facts=facts)
    settings = EvalSettings(options={"rule": "at_most", "norm": True, "detector": True})
    embedding = np.zeros(2)

    def embed(request):
        nonlocal embedding
        began = _clocks()
        plain, mirrored = data.features(request.rows)
        embedded = SimpleNamespace(
            features=plain, plain=plain, mirrored=mirrored,
            unusable=np.empty(0, np.int64),
        )  # fmt: skip
        embedding += _clocks() - began
        return embedded

    began = _clocks()
    result = Ijb(lists_of_ijb.IJBC, settings, images, lists).evaluate(embed, ALONE)
    seconds, processor = (_clocks() - began - embedding).tolist()
    points = result.details["verification"][0]["published"]
    return {
        "seconds": {"all": seconds, "processor": processor},
        "tar": [point["tar"] for point in points],
        "auc": result.scalars["auc"],
        "also": {
            name: result.scalars[name]
            for name in ("tar_1e-4", "rank_1", "rank_1_union", "tpir_0.01", "eer")
        },
    }


def published_ijbc(data: RandomIjbc) -> dict:
    """Does what eval_ijbc.py does for one variant, N1 D1 with mirror images."""
    from sklearn.metrics import auc, roc_curve
    from sklearn.preprocessing import normalize

    features = np.empty((len(data.templates), DIM), np.float32)
    for start in range(0, len(features), 10_000):
        rows = np.arange(start, min(start + 10_000, len(features)))
        features[rows] = np.add(*data.features(rows))
    seconds, began, processor = {}, time.perf_counter(), time.process_time()
    features = features * data.detector[:, None]
    numbers = np.unique(data.templates)
    templates = np.zeros((len(numbers), DIM))
    for place, number in enumerate(numbers):
        (rows,) = np.where(data.templates == number)
        media = data.media[rows]
        means = [
            features[rows[media == medium]].mean(axis=0) for medium in np.unique(media)
        ]
        templates[place] = np.sum(means, axis=0)
    templates = normalize(templates)
    seconds["templates"] = time.perf_counter() - began
    scores = np.zeros(len(data.left))
    for start in range(0, len(scores), 100_000):
        part = slice(start, start + 100_000)
        one, other = templates[data.left[part]], templates[data.right[part]]
        scores[part] = np.sum(one * other, -1)
    seconds["scores"] = time.perf_counter() - began - seconds["templates"]
    fpr, tpr, _ = roc_curve(data.genuine, scores)
    area = auc(fpr, tpr)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    tar = [float(tpr[np.argmin(np.abs(fpr - far))]) for far in FARS]
    seconds["all"] = time.perf_counter() - began
    seconds["processor"] = time.process_time() - processor
    seconds["rates"] = seconds["all"] - seconds["templates"] - seconds["scores"]
    return {"seconds": seconds, "tar": tar, "auc": float(area), "also": {}}


# Case -> data of a share of its size, and the ways to evaluate it.
CASES = {"ijbc": (RandomIjbc, {"ours": ours_ijbc, "published": published_ijbc})}


def work(case: str, way: str, share: float) -> None:
    """Runs one way in this process and prints its numbers as JSON."""
    draw, ways = CASES[case]
    data = draw(share)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = ways[way](data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(answer | {"gib": peak / 2**20, "gib_before": start / 2**20}))


def main() -> None:
    """Runs both ways of each case and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--share", type=float, default=1.0, help="of the published way")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.cases[0], args.worker, args.share)
        return
    for case in args.cases:
        answers = {}
        for way in CASES[case][1]:
            share = args.share if way == "published" else 1.0
            command = [sys.executable, __file__, case, "--worker", way]
            done = subprocess.run(
                [*command, "--share", str(share)],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            answer = answers[way] = json.loads(done.stdout)
            print(
                f"{case}, {way}, share {share:g}: {answer['seconds']['all']:.1f} s "
                f"({answer['seconds']['processor']:.1f} s of the cores), "
                f"{answer['gib']:.2f} GiB at most ({answer['gib_before']:.2f} before)",
                flush=True,
            )
            print(f"  {json.dumps(answer['seconds'])} {json.dumps(answer['also'])}")
        if args.share == 1:
            away = np.abs(np.subtract(*(one["tar"] for one in answers.values()))).max()
            print(f"{case}: TAR at most {away:.1e} apart: {answers['ours']['tar']}")


if __name__ == "__main__":
    main()
