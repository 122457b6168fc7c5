"""A quality score from outside the package, from its file to every place it shows."""

import numpy as np
import pytest

from qface_jax import tables
from qface_jax.evals import results
from qface_jax.evals.measures import error_discard
from qface_jax.inference.quality_score import build_scores, checkpoint_parts, names_of
from support.small_run import small

TOY = """
import numpy as np
from qface_jax.inference.quality_score import QualityScore
from qface_jax.options import Option, POSITIVE


def build(parts, options):
    factor = options["factor"] * (2 if options["recognizability.index_of"] else 1)
    return lambda features: factor * np.abs(features).max(axis=1)


PEAK = QualityScore(
    "peak",
    build,
    settings=("recognizability.index_of",),
    options={"factor": Option(1.5, POSITIVE, "times the largest entry")},
)
NEEDY = QualityScore("needy", lambda parts, _: parts["aux/x"].get("y"), ("aux/x",))
"""


@pytest.fixture
def name(tmp_path, monkeypatch):
    """The toy's name, trusted for the length of a test."""
    monkeypatch.setattr(tables, "_trusted", set())
    path = tmp_path / "toy_score.py"
    path.write_text(TOY)
    tables.trust(f"{path}:PEAK")
    return f"{path}:PEAK"


def built(*extra, words=()):
    config = small(*words)
    names = names_of(config, extra)
    return build_scores(names, {path: {} for path in checkpoint_parts(names)}, config)


def test_the_options_reach_the_score(name):
    features = np.array([[1.0, -4.0], [0.5, 0.0]])
    np.testing.assert_array_equal(built(name)[name](features), [12.0, 1.5])
    words = (f"eval.quality_scores=({name!r},)", "own.quality_score.factor=0.5")
    scores = built(words=words)
    np.testing.assert_array_equal(scores[name](features), [4.0, 0.5])
    needy = name.replace("PEAK", "NEEDY")
    tables.trust(needy)
    assert checkpoint_parts([needy])[-1] == "aux/x"
    assert list(built(needy)) == ["norm"]


def test_it_is_in_scalars_tables_and_curves_of_an_evaluation(name, toy, tmp_path):
    result = toy.evaluate(scores=built(name), discard_fmr=0.1)
    # The toy's noise is the larger the fewer pixels there are.
    assert -1 <= result.scalars[f"rank_{name}"] < 0
    assert f"discard_{name}" in result.scalars
    again = results.read(results.write(tmp_path, result))
    assert error_discard.scores_of(again.arrays, toy.sides) == ["norm", name]
    curves = error_discard.curves(again.arrays, toy.sides, fmr=0.1)
    assert list(curves) == ["norm", name]
    drawn = error_discard.pictures(again.arrays, toy.sides, fmr=0.1)
    assert "peak, by resolution" in [picture.title for picture in drawn]
    assert any("peak (area" in line.label for line in drawn[-1].lines)
    assert any("peak" in row for table in again.tables for row in table.rows)
