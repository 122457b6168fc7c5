"""The pictures of AdaFace's Figs. 4 and 6."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from qface_jax.report.drawings import quality_pictures
from qface_jax.report.drawings.quality_pictures import NORM, PROBABILITY, Measured


def measured(step=0, n=30, seed=0):
    rng = np.random.default_rng(seed)
    quality = rng.normal(0.6, 0.2, n)
    norms = 10 + 5 * quality + rng.normal(0, 1, n)
    return Measured(step, norms, rng.uniform(0, 1, n), quality)


def test_correlation_is_pearsons():
    point = measured()
    got = quality_pictures.correlations(point)
    for name, values in ((NORM, point.norms), (PROBABILITY, point.probabilities)):
        want = stats.pearsonr(values, point.quality).statistic
        assert got[name] == pytest.approx(want, rel=1e-12)
    assert quality_pictures.correlation(point.norms, 7 - 2 * point.norms) == (
        pytest.approx(-1.0)
    )


def test_correlation_that_is_not_defined():
    assert math.isnan(quality_pictures.correlation(np.ones(3), np.arange(3)))
    assert math.isnan(quality_pictures.correlation(np.ones(1), np.ones(1)))
    assert math.isnan(
        quality_pictures.correlation(np.array([1.0, np.nan, 2.0]), np.arange(3))
    )


@pytest.mark.parametrize("points", [1, 12])
def test_pictures_are_written(points, tmp_path):
    rows = [measured(10 * i, seed=i) for i in range(points)]
    images = np.random.default_rng(0).integers(0, 256, (20, 112, 112, 3), np.uint8)
    for path in (
        quality_pictures.write_correlations(tmp_path, rows),
        quality_pictures.write_trajectories(tmp_path, rows, images),
    ):
        assert path.parent == tmp_path / "samples"
        with Image.open(path) as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")))) > 50


@pytest.mark.parametrize("norms", [[0.0], [3.0], [np.nan, 2.0, 5.0]])
def test_edges_are_drawn(norms, tmp_path):
    n = len(norms)
    row = Measured(0, np.array(norms), np.zeros(n), np.arange(n) / 2)
    images = np.zeros((1, 112, 112, 3), np.uint8)
    assert quality_pictures.write_correlations(tmp_path, [row]).is_file()
    assert quality_pictures.write_trajectories(tmp_path, [row], images).is_file()
