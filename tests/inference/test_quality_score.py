"""The scores of the package by their formulas, and which of them a model has."""

import numpy as np
import pytest

from qface_jax.configs import base
from qface_jax.inference.quality_score import build_scores, checkpoint_parts, names_of

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(7, 5)) * 9
CENTRE = np.eye(5)[1]
KERNEL, BIAS = RNG.normal(size=(5, 1)), np.array([0.25])
KNOWN = {
    "aux/ui": {"centre": CENTRE, "mean": 0.0, "std": 1.0},
    "params/head/prm": {"kernel": KERNEL, "bias": BIAS},
}


def scores_of(*parts, index_of="features", features=FEATURES):
    config = base.get_config()
    config.recognizability.index_of = index_of
    names = names_of(config)
    saved = {
        path: KNOWN[path] if path in parts else {} for path in checkpoint_parts(names)
    }
    scores = build_scores(names, saved, config)
    return {name: score(features) for name, score in scores.items()}


def test_each_score_by_its_formula():
    scores = scores_of(*KNOWN)
    norms = np.sqrt((FEATURES**2).sum(axis=1))
    np.testing.assert_allclose(scores["norm"], norms)
    np.testing.assert_allclose(scores["ers"], np.minimum(1 - FEATURES[:, 1] / norms, 1))
    np.testing.assert_allclose(scores["ri"], FEATURES @ KERNEL[:, 0] + 0.25)
    assert np.any(scores["ers"] == 1.0) and np.any(scores["ers"] < 1.0)


def test_the_index_of_unit_features():
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    scores = scores_of("params/head/prm", index_of="unit")
    np.testing.assert_allclose(scores["ri"], unit @ KERNEL[:, 0] + 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ((), ("norm",)),
        (("aux/ui",), ("norm", "ers")),
        (("aux/ui", "params/head/prm"), ("norm", "ers", "ri")),
        (("params/head/prm",), ("norm", "ri")),
    ],
)
def test_a_model_gives_the_scores_that_it_knows(parts, names):
    assert tuple(scores_of(*parts)) == names


def test_a_zero_feature_is_finite():
    scores = scores_of(*KNOWN, index_of="unit", features=np.zeros((2, 5)))
    assert all(np.all(np.isfinite(values)) for values in scores.values())
