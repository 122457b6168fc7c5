"""Rates against the published programs, and against a plain reading of the rules."""

import numpy as np
import pytest

from qface_jax.evals.measures import rates
from support.protocol_goldens import golden

KINDS = ("plain", "ties", "few", "separated")


@pytest.fixture(scope="module")
def recorded():
    return golden("roc_det")


def scores_of(recorded, kind):
    return rates.split(recorded[f"{kind}_score"], recorded[f"{kind}_label"] == 1)


def drawn(m, n, *, levels, seed):
    rng = np.random.default_rng(seed)
    genuine, impostor = rng.normal(1, 1, m), rng.normal(0, 1, n)
    if levels:
        genuine, impostor = (np.rint(x * levels) / levels for x in (genuine, impostor))
    return rates.Scores(np.sort(genuine), np.sort(impostor))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["at_most", "nearest_vertex", "nearest"])
def test_tar_is_the_recorded_one(recorded, kind, rule):
    points = rates.tar_at_far(scores_of(recorded, kind), recorded["targets"], rule=rule)
    assert [point.tar for point in points] == list(recorded[f"{kind}_tar_{rule}"])


@pytest.mark.parametrize("kind", KINDS)
def test_tar_on_the_straight_lines_is_the_recorded_one(recorded, kind):
    points = rates.tar_at_far(
        scores_of(recorded, kind), recorded["targets"], rule="linear"
    )
    tars = [point.tar for point in points]
    np.testing.assert_allclose(tars, recorded[f"{kind}_tar_linear"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_area_det_and_equal_error_are_the_recorded_ones(recorded, kind):
    scores = scores_of(recorded, kind)
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(rates.auc(scores), recorded[f"{kind}_auc"], **close)
    np.testing.assert_allclose(rates.eer(scores), recorded[f"{kind}_eer"], **close)
    errors = rates.det(scores)
    np.testing.assert_array_equal(errors.threshold, recorded[f"{kind}_det_threshold"])
    np.testing.assert_allclose(errors.fmr, recorded[f"{kind}_det_fmr"], **close)
    np.testing.assert_allclose(errors.fnmr, recorded[f"{kind}_det_fnmr"], **close)


@pytest.mark.parametrize("kind", KINDS)
def test_misses_at_a_false_match_rate_are_the_recorded_ones(recorded, kind):
    points = rates.tar_at_far(scores_of(recorded, kind), recorded["targets"])
    misses = [1 - point.tar for point in points]
    np.testing.assert_allclose(
        misses, recorded[f"{kind}_fnmr_at_fmr"], rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_points_that_scikit_learn_keeps_are_among_ours(recorded, kind):
    errors = rates.det(scores_of(recorded, kind))
    ours = {
        threshold: (fmr, fnmr)
        for fmr, fnmr, threshold in zip(*errors, strict=True)
    }  # fmt: skip
    for fmr, fnmr, threshold in zip(
        recorded[f"{kind}_sk_det_fpr"],
        recorded[f"{kind}_sk_det_fnr"],
        recorded[f"{kind}_sk_det_threshold"],
        strict=True,
    ):
        assert ours[threshold] == pytest.approx((fmr, fnmr), abs=1e-12)


def corners(scores):
    """The ROC as scikit-learn leaves it, all at once: FPR, TPR, thresholds."""
    fmr, fnmr, limits = rates.det(scores)
    m, n = map(len, scores)
    fps, tps = np.rint(fmr * n)[1:], np.rint((1 - fnmr) * m)[1:]
    keep = np.r_[True, (np.diff(fps, 2) != 0) | (np.diff(tps, 2) != 0), True]
    if len(fps) <= 2:
        keep = np.ones(len(fps), bool)
    return (
        np.r_[0, fps[keep]] / n,
        np.r_[0, tps[keep]] / m,
        np.r_[np.inf, limits[1:][keep]],
    )


@pytest.mark.parametrize("window", [1, 7, 1024])
@pytest.mark.parametrize("levels", [0, 4, 50])
def test_the_nearest_corner_is_that_of_the_whole_curve(window, levels, monkeypatch):
    monkeypatch.setattr(rates, "_WINDOW", window)
    for seed in range(8):
        scores = drawn(30, 400, levels=levels, seed=seed)
        fpr, tpr, limits = corners(scores)
        fars = [0.0, 1e-4, 0.0013, 0.01, 0.05, 0.1, 0.33, 0.5, 0.999, 1.0]
        points = rates.tar_at_far(scores, fars, rule="nearest_vertex")
        for far, point in zip(fars, points, strict=True):
            away = np.abs(fpr - far)
            best = len(away) - 1 - np.argmin(away[::-1])
            assert (point.tar, point.far_reached) == (tpr[best], fpr[best])
            assert point.threshold == limits[best]


@pytest.mark.parametrize("levels", [0, 4, 50])
def test_at_most_is_the_best_of_all_thresholds(levels):
    scores = drawn(40, 60, levels=levels, seed=3)
    fmr, fnmr, _ = rates.det(scores)
    for far in (0.0, 0.01, 1 / 60, 0.1, 0.29, 0.99, 1.0):
        (point,) = rates.tar_at_far(scores, [far])
        assert point.tar == pytest.approx(np.max(1 - fnmr[fmr <= far + 1e-12]))
        assert point.tar == np.mean(scores.genuine >= point.threshold)
        assert point.accepted == np.sum(scores.genuine >= point.threshold)
        assert point.far_reached == np.mean(scores.impostor >= point.threshold)
        assert point.far_reached <= far + 1e-12


def test_thresholds_of_all_rules_do_what_they_say():
    scores = drawn(40, 600, levels=30, seed=5)
    for rule in ("at_most", "nearest_vertex", "nearest"):
        for point in rates.tar_at_far(scores, [0.003, 0.02, 0.2], rule=rule):
            assert point.tar == np.mean(scores.genuine >= point.threshold)
            assert point.far_reached == np.mean(scores.impostor >= point.threshold)


def test_a_rate_of_few_pairs_says_so():
    scores = drawn(40, 600, levels=0, seed=5)
    few, enough = rates.tar_at_far(scores, [0.01, 10 / 600])
    assert few.reason == "FAR 0.01 of 600 impostor pairs is 6 pairs"
    assert enough.reason is None


def test_a_collapsed_model_accepts_nobody():
    scores = rates.Scores(np.ones(5), np.ones(50))
    (point,) = rates.tar_at_far(scores, [0.1])
    assert (point.tar, point.far_reached) == (0.0, 0.0)
    assert rates.auc(scores) == 0.5 and rates.eer(scores) == 0.5


def test_one_kind_of_pairs_has_no_rates():
    scores = rates.split(np.arange(3.0), np.ones(3, bool))
    for rule in rates.RULES:
        (point,) = rates.tar_at_far(scores, [0.1], rule=rule)
        assert (point.tar, point.reason) == (None, "no pairs of two identities")
    assert rates.auc(scores) is None and rates.eer(scores) is None
    assert [len(part) for part in (*rates.det(scores), *rates.thin_det(scores))] == [
        0
    ] * 6


def test_thinned_points_are_exact_and_can_be_drawn():
    scores = drawn(300, 5000, levels=0, seed=2)
    fmr, fnmr, threshold = rates.thin_det(scores, points=60)
    assert 30 < len(fmr) <= 61 and np.all(np.diff(fmr) >= 0)
    assert 0 < fmr.min() and fmr.max() < 1 and 0 < fnmr.min() and fnmr.max() < 1
    inside = (fmr > 1 / 5000) & (fmr < 1 - 1 / 5000)
    for f, t in zip(fmr[inside], threshold[inside], strict=True):
        assert f == np.mean(scores.impostor >= t)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_must_be_finite(bad):
    with pytest.raises(ValueError, match="must be finite"):
        rates.split(np.array([0.1, bad, 0.3]), np.array([True, True, False]))


def test_unknown_rules_and_rates_are_refused():
    scores = drawn(4, 4, levels=0, seed=0)
    with pytest.raises(ValueError, match=r"rule: got 'best', must be one of at_most"):
        rates.tar_at_far(scores, [0.1], rule="best")
    with pytest.raises(ValueError, match="from 0 to 1"):
        rates.tar_at_far(scores, [1.1])
    with pytest.raises(ValueError, match=r"must both be \[p\]"):
        rates.split(np.ones(3), np.ones(4, bool))
