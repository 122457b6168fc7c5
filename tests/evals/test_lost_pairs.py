"""Pairs with an unusable image: which they are, and what they cost."""

import numpy as np
import pytest

from qface_jax.errors import DataError
from qface_jax.evals import lost_pairs
from qface_jax.evals.measures import verification

FIRST, SECOND = np.array([0, 1, 2, 3, 0, 5]), np.array([1, 2, 3, 4, 5, 4])


def lost(*unusable, folds=3):
    of_images = np.isin(np.arange(6), unusable)
    return lost_pairs.lost_pairs(
        of_images, FIRST, SECOND, folds=folds, place="folder"
    ).tolist()


def test_an_image_may_be_of_several_pairs():
    assert lost() == [False] * 6
    assert lost(1, folds=2) == [True, True, False, False, False, False]
    assert lost(0) == [True, False, False, False, True, False]


def test_a_fold_must_keep_a_pair():
    words = r"folder: got no usable pair of fold 1 of 3, .* 1 of 6 images are missing"
    with pytest.raises(DataError, match=words):
        lost(1)


def test_counted_as_wrong():
    rng = np.random.default_rng(0)
    issame = np.arange(31) % 2 == 0
    dist = np.where(issame, 0.4, 0.9) + rng.normal(0, 0.3, 31).clip(-0.3, 0.9)
    gone = np.isin(np.arange(31), [0, 7, 8, 30])
    score = verification.score(dist, issame, metric="cosine", folds=3, lost=gone)
    bounds = verification.fold_bounds(31, 3)
    expected = []
    for fold, threshold in enumerate(score.fold_thresholds):
        part = slice(bounds[fold], bounds[fold + 1])
        right = ((dist < threshold) == issame) & ~gone
        expected.append(right[part].mean())
    accuracy, std = lost_pairs.with_lost_wrong(score, gone)
    assert accuracy == pytest.approx(np.mean(expected))
    assert std == pytest.approx(np.std(expected))


def test_the_sentence():
    assert lost_pairs.warnings(np.zeros(3, bool), np.zeros(6, bool)) == []
    (sentence,) = lost_pairs.warnings(np.arange(3) < 2, np.arange(6) < 3)
    assert sentence.startswith("2 of 3 pairs are lost with 3 of 6 images that are")
