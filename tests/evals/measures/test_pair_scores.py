import numpy as np
import pytest

from qface_jax.evals.measures import pair_scores
from qface_jax.evals.measures.unit import unit


def listed(t, p, seed=0):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(t, 7)))
    return vectors, rng.integers(0, t // 3, p), rng.integers(t // 3, t, p)


def plain(vectors, left, right):
    return np.array([vectors[i] @ vectors[j] for i, j in zip(left, right, strict=True)])


@pytest.mark.parametrize("pairs", [0, 1, 60, 5000])
@pytest.mark.parametrize("cells", [0, 1e9], ids=["row by row", "matrix"])
@pytest.mark.parametrize("in_order", [True, False])
def test_scores_are_the_dot_products(pairs, cells, in_order, monkeypatch):
    monkeypatch.setattr(pair_scores, "_CELLS", cells)
    monkeypatch.setattr(pair_scores, "_LEFTS", 5)
    monkeypatch.setattr(pair_scores, "_ROWS", 64)
    vectors, left, right = listed(60, pairs)
    if in_order:
        left = np.sort(left)
    scores = pair_scores.scorer(left, right)(vectors)
    np.testing.assert_allclose(
        scores, plain(vectors, left, right), rtol=0, atol=5.1e-10
    )
    np.testing.assert_array_equal(scores, np.rint(scores * 1e9) / 1e9)


def test_equal_vectors_tie_and_both_ways_agree(monkeypatch):
    vectors, left, right = listed(90, 4000, seed=2)
    vectors[40:80] = vectors[40]
    scores = []
    for cells in (0, 1e9):
        monkeypatch.setattr(pair_scores, "_CELLS", cells)
        scores.append(pair_scores.scorer(left, right)(vectors))
    np.testing.assert_array_equal(*scores)
    for i in range(30):
        same = scores[0][(left == i) & (right >= 40) & (right < 80)]
        assert len(np.unique(same)) == 1


@pytest.mark.parametrize("cells", [0, 1e9], ids=["row by row", "matrix"])
def test_a_zero_vector_scores_below_every_cosine(cells, monkeypatch):
    monkeypatch.setattr(pair_scores, "_CELLS", cells)
    vectors, left, right = listed(30, 500)
    vectors[[3, 20]] = 0
    scores = pair_scores.scorer(left, right)(vectors)
    zero = (left == 3) | (right == 20)
    assert zero.any() and np.all(scores[zero] == pair_scores.UNSCORED)
    assert np.all(scores[~zero] >= -1)


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must both be \[p\]"):
        pair_scores.scorer(np.zeros(3, int), np.zeros(4, int))
