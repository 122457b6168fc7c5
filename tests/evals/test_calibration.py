"""False match rates and thresholds of an evaluation, against counts by hand."""

import dataclasses
import math

import numpy as np
import pytest

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import calibration, results
from qface_jax.evals.calibration import CROSS, SAME
from qface_jax.evals.results import Result

ISSAME = np.arange(4000) % 4 == 0
COSINES = np.random.default_rng(0).uniform(-0.5, 0.5, 4000) + 0.4 * ISSAME


def written(folder, *, metric="euclidean", factor=1.0, **changes):
    dist = np.float32(factor * (2 - 2 * COSINES))
    result = Result(
        "pairs",
        {},
        manifest={"metric": metric, "flip": False, "antialias": True},
        protocol="verification",
        checkpoint={"path": "run", "step": 3},
        date="today",
        arrays={"issame": ISSAME, "cross_112": dist, "cross_14": dist, "same_14": dist},
    )
    return results.write(folder, dataclasses.replace(result, **changes))


@pytest.mark.parametrize(("metric", "factor"), [("euclidean", 1.0), ("cosine", 0.5)])
def test_rates_are_those_of_the_pairs(tmp_path, metric, factor):
    path = written(tmp_path, metric=metric, factor=factor)
    found = calibration.read(path.with_suffix(".npz"))
    assert found.sides == [112, 14]
    assert (found.flip, found.antialias, found.set) == (False, True, "pairs")
    for cosine in (-1.0, 0.1234, 0.45, 0.51):
        rate = found.false_match_rate(cosine, SAME, 14)
        assert rate.pairs == 3000
        assert rate.reached == (COSINES[~ISSAME] >= cosine).sum()
        assert rate.rate == rate.reached / 3000
        assert rate.low <= rate.rate <= rate.high
    assert found.false_match_rate(0.51, CROSS, 14).high > 0
    assert found.false_match_rate(0.5, SAME, 112) is None
    assert found.false_match_rate(0.5, CROSS, 28) is None


def test_the_threshold_of_a_search(tmp_path):
    found = calibration.read(written(tmp_path))
    limit = found.search_threshold(0.05, 10, side=112)
    of_pair = 1 - 0.95 ** (1 / 10)
    reached = (COSINES[~ISSAME] >= limit + 1e-6).sum()
    assert reached == math.floor(of_pair * 3000)
    assert found.search_threshold(0.05, 1, side=112) < limit
    with pytest.raises(ConfigError, match=r"1,949,\d+ pairs of two people are"):
        found.search_threshold(0.05, 10_000, side=112)
    with pytest.raises(ConfigError, match="has no pairs at 28 px; it has 112, 14 px"):
        found.search_threshold(0.05, 10, side=28)


def test_results_without_pairs_are_refused(tmp_path):
    path = written(tmp_path, arrays={"cmc": np.ones(3)}, protocol="tinyface")
    with pytest.raises(ConfigError, match="says nothing of pairs of two people"):
        calibration.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        calibration.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "manifest",
    [
        {}, {"metric": 3, "flip": True, "antialias": True}, {"metric": "cosine"},
        {"metric": "unheard", "flip": True, "antialias": True},
        {"metric": "cosine", "flip": "no", "antialias": True},
    ],
)  # fmt: skip
def test_a_manifest_edited_by_hand_is_refused(tmp_path, manifest):
    with pytest.raises(DataError, match="run qface eval again"):
        calibration.read(written(tmp_path, manifest=manifest))


def test_arrays_of_other_shapes_are_refused(tmp_path):
    path = written(tmp_path, arrays={"issame": ISSAME, "cross_14": np.ones((2, 2))})
    with pytest.raises(DataError, match="scores cannot be read"):
        calibration.read(path)
