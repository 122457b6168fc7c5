"""Scores of features, and how they rank pictures."""

import numpy as np
import pytest

from qface_jax.evals.measures import quality_scores
from qface_jax.evals.measures.quality_scores import rank_correlation
from qface_jax.report.drawings import unrecognizable_distances

RNG = np.random.default_rng(0)


def test_rank_correlation_with_ties_by_hand():
    assert rank_correlation(np.array([1, 2, 3]), np.array([10, 30, 900])) == 1.0
    assert rank_correlation(np.array([3, 2, 1]), np.array([10, 30, 900])) == -1.0
    # Ranks 1.5 1.5 3 4 and 1 2 3.5 3.5, as Pearson's correlation of the ranks.
    ranks = np.corrcoef([1.5, 1.5, 3, 4], [1, 2, 3.5, 3.5])[0, 1]
    got = rank_correlation(np.array([5, 5, 6, 9]), np.array([1, 2, 7, 7]))
    np.testing.assert_allclose(got, ranks)


@pytest.mark.parametrize(
    ("values", "other"),
    [([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0]),
     ([1.0, np.nan], [1.0, 2.0]), ([], [])],
)  # fmt: skip
def test_no_rank_correlation_where_there_is_none(values, other):
    assert rank_correlation(np.array(values), np.array(other)) is None


def test_correlation_with_sides():
    by_side = {112: np.array([5.0, 6.0]), 7: np.array([1.0, 2.0, 3.0])}
    want = rank_correlation(np.array([5, 6, 1, 2, 3]), np.array([112, 112, 7, 7, 7]))
    assert quality_scores.correlation_with_sides(by_side) == want > 0.8


def test_wrong_signs_name_the_score():
    found = {"norm": -0.3, "ers": 0.8, "ri": None}
    (line,) = quality_scores.wrong_signs(found)
    assert line.startswith("feature norm falls") and "-0.30" in line


def test_separation_is_the_chance_with_ties_half():
    ui, faces = np.array([0.9, 0.5]), np.array([0.1, 0.5, 0.7, 0.95])
    want = np.mean([[1, 1, 1, 0], [1, 0.5, 0, 0]])
    assert unrecognizable_distances.separation(ui, faces) == want
    assert unrecognizable_distances.separation(np.ones(3), np.zeros(2)) == 1.0


def test_ui_distances_as_text_and_picture(tmp_path):
    ui, faces = RNG.uniform(0.7, 1.0, 50), RNG.uniform(-0.2, 0.8, 80)
    text = "\n".join(unrecognizable_distances.lines(ui, faces, 0.875))
    assert "tightness 0.875" in text and "separation 0.9" in text
    assert "unrecognizable images" in text and "50" in text and "80" in text
    path = unrecognizable_distances.draw(tmp_path / "samples" / "ui.png", ui, faces)
    assert path.read_bytes().startswith(b"\x89PNG")
