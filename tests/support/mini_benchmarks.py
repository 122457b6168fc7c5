"""The miniature benchmarks, and features that stand for those of their pictures."""

import json
import os
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
