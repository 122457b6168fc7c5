"""The figure of a detection error trade-off: normal scores make straight lines."""

import re
import warnings

import numpy as np
import pytest
from scipy.special import ndtr

from qface_jax.evals.results import Curve
from qface_jax.report.figures import KINDS, Line, det_plot


def paths(svg):
    """Points of the lines of the plot, in px of the picture, [k, 2] each."""
    drawn = re.findall(r'<path d="([^"]*)" clip-path[^>]*var\(--series', svg)
    return [
        np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path), float) for path in drawn
    ]


def normal(shift):
    """FMR and FNMR of two normal distributions, `shift` apart."""
    threshold = np.linspace(-1, shift + 1, 40)
    return ndtr(-threshold)[::-1], ndtr(threshold - shift)[::-1]


def test_normal_scores_are_a_straight_line():
    svg = det_plot("DET", [Line("model", *normal(3.0))]).svg()
    (points,) = paths(svg)
    x, y = (points - points[0]).T
    assert len(points) >= 2 and abs(x[-1]) > 50 and abs(y[-1]) > 50
    np.testing.assert_allclose(x * y[-1], y * x[-1], atol=0.02 * abs(x[-1] * y[-1]))


def test_axes_and_legend():
    lines = [Line("one", *normal(3.0)), Line("two", *normal(2.0))]
    svg = det_plot("DET of it", lines).svg()
    assert svg.startswith("<svg") and 'aria-label="DET of it"' in svg
    for words in ("false match rate, %", "false non-match rate, %", "one", "two"):
        assert f">{words}<" in svg
    assert svg.count(">10<") == svg.count(">1<") == 2  # percent, on both axes
    assert len(paths(svg)) == 2


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0, 0.1, 1], [1, 0.2, 0]),
        ([0, 0, 0.01, 0.3, 1], [1, 0.4, 0.2, 0.1, 0]),
        ([0, 1], [1, 0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([], []),
        ([1e-7, 0.5], [0.3, 1e-7]),
        ([0.1, np.nan, 0.3], [0.3, 0.2, 0.1]),
    ],
)
def test_rates_without_a_place_are_left_out(x, y):
    x, y = np.array(x, float), np.array(y, float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = det_plot("DET", [Line("model", x, y)]).svg()
    inside = np.sum((x > 0) & (x < 1) & (y > 0) & (y < 1))
    assert sum(map(len, paths(svg))) == inside


def test_a_result_draws_it_by_its_kind():
    line = Line("model", *normal(3.0))
    curve = Curve("det", "Trade-off", [])
    (by_kind,), (drawn,) = map(
        paths,
        (KINDS["det"](curve, [line]).svg(), det_plot("Trade-off", [line]).svg()),
    )
    np.testing.assert_array_equal(by_kind, drawn)
