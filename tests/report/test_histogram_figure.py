"""The histogram of a result: what it counts stands at its axis."""

import numpy as np
import pytest

from qface_jax.evals.results import Curve
from qface_jax.report.figures import KINDS, Line


@pytest.mark.parametrize(
    ("ylabel", "written"), [("pairs, %", "pairs, %"), ("", "images, %")]
)
def test_the_axis_says_what_is_counted(ylabel, written):
    curve = Curve("histogram", "Scores", [], xlabel="cosine", ylabel=ylabel)
    values = np.random.default_rng(0).normal(size=50)
    svg = KINDS["histogram"](curve, [Line("one person", np.array([]), values)]).svg()
    assert f">{written}<" in svg and ">cosine<" in svg and 'aria-label="Scores"' in svg
