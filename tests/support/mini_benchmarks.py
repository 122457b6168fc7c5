"""The miniature benchmarks, and features that stand for those of their pictures."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from qface_jax.evals.embedded import Embedded

SHARED = Path(__file__).parents[3] / "shared" / "protocols"
PROTOCOLS = Path(os.environ.get("QFACE_PROTOCOLS", SHARED))


def mini(name):
    """Returns the folder of a miniature benchmark; skips the test without it."""
    folder = PROTOCOLS / "mini" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set QFACE_PROTOCOLS to the folder of mini/")
    return folder


def expected(name):
    """Returns what a reader must count."""
    counts = json.loads((mini(name).parent / "expected_counts.json").read_text())
    return counts[name]


class FakeEmbedder:
    """Answers requests with rows of a table, and keeps what was asked.

    Attributes:
        requests: those answered.
    """

    def __init__(self, features, unusable=()):
        self._features, self._unusable = np.asarray(features, np.float32), unusable
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        rows = np.asarray(request.rows, np.int64)
        features = self._features[rows]
        bad = np.flatnonzero(np.isin(rows, self._unusable))
        features[bad] = 0
        return Embedded(features, {"norm": np.linalg.norm(features, axis=1)}, bad)


def people(labels, *, noise, width=16, seed=0):
    """Returns a feature for each label: the label's direction, and noise.

    Args:
        labels: any, one for each image; None: a direction of its own.
        noise: spread about a person's direction.
        width: of the features.
        seed: of the directions and the noise.
    """
    rng = np.random.default_rng(seed)
    names = sorted({label for label in labels if label is not None}, key=str)
    centres = dict(zip(names, rng.normal(size=(len(names), width)), strict=True))
    own = rng.normal(size=(len(labels), width))
    return np.stack(
        [
            own[i] if label is None else centres[label] + noise * own[i]
            for i, label in enumerate(labels)
        ]
    ).astype(np.float32)


def joined(folder, bin_files=(), few=20):
    """Returns a folder with all miniatures side by side, as the sets of papers want it.

    There are no miniatures of the LFW family: each of its files gets the same pairs of
    the open LFW folds, and SLLFW's list some of XQLFW's over XQLFW's aligned copies.

    Args:
        folder: to make; it holds links.
        bin_files: names of the LFW family.
        few: pairs of each kind.
    """
    folder.mkdir()
    for place in ("ijbb", "ijbc", "tinyface", "scface", "survface"):
        for path in mini(place).iterdir():
            (folder / path.name).symlink_to(path)
    (folder / "xqlfw").symlink_to(mini("xqlfw"))
    (folder / "lfw").symlink_to(mini("xqlfw") / "xqlfw_aligned_112")
    (folder / "sllfw").mkdir()
    lines = (mini("xqlfw") / "xqlfw_pairs.txt").read_text().splitlines()[1:]
    same, different = ([x for x in lines if len(x.split()) == n] for n in (3, 4))
    # Every fold needs pairs of both kinds.
    both = [line for couple in zip(same, different, strict=False) for line in couple]
    text = "".join(f"{line}\n" for line in both[: 2 * few])
    (folder / "sllfw" / "pair_SLLFW.txt").write_text(text)
    if bin_files:
        encoded, same = pickle.loads(open_pairs().read_bytes(), encoding="bytes")
        places = [np.flatnonzero(np.asarray(same) == kind)[:few] for kind in (1, 0)]
        chosen = np.stack(places, axis=1).ravel().tolist()
        images = [encoded[2 * pair + side] for pair in chosen for side in (0, 1)]
        pairs = (images, [bool(same[pair]) for pair in chosen])
        for name in bin_files:
            (folder / name).write_bytes(pickle.dumps(pairs))
    return folder


def open_pairs():
    """Returns the `.bin` of the open LFW folds; skips the test without it."""
    default = SHARED.parent / "faces"
    path = Path(os.environ.get("QFACE_FACES", default)) / "lfw_open.bin"
    if not path.is_file():
        pytest.skip(f"no {path}: set QFACE_FACES to its folder")
    return path
