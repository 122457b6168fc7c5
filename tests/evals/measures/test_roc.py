import numpy as np
import pytest

from qface_jax.evals.measures.roc import auc, equal_error_rate, roc, tar_at_far


def pairs(n_same, n_different, *, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    issame = rng.permutation(np.arange(n_same + n_different) < n_same)
    dist = rng.normal(1.5, 0.4, len(issame)) - 0.6 * issame
    if levels is not None:  # ties
        dist = np.round(dist * levels) / levels
    return dist, issame


@pytest.mark.parametrize("levels", [None, 5])
def test_auc_counts_ordered_pairs_of_pairs(levels):
    dist, issame = pairs(40, 60, levels=levels)
    same, different = dist[issame], dist[~issame]
    wins = sum((s < d) + 0.5 * (s == d) for s in same for d in different)
    np.testing.assert_allclose(auc(dist, issame), wins / 2400, atol=1e-12)


def test_equal_errors_lie_between_the_thresholds_around_them():
    dist, issame = pairs(400, 600)
    same, different = dist[issame], dist[~issame]
    limits = np.sort(dist)
    accepted = (different[:, None] <= limits).mean(0)
    refused = (same[:, None] > limits).mean(0)
    behind = int(np.argmax(accepted >= refused))  # the first threshold past the point
    eer = equal_error_rate(dist, issame)
    assert accepted[behind - 1] <= eer <= accepted[behind]
    assert refused[behind] <= eer <= refused[behind - 1]


def test_equal_errors_at_the_edges():
    issame = np.array([True, True, False, False])
    assert equal_error_rate(np.array([0.1, 0.2, 0.3, 0.4]), issame) == 0.0
    assert equal_error_rate(np.array([0.3, 0.4, 0.1, 0.2]), issame) == 1.0
    assert equal_error_rate(np.zeros(4), issame) == 0.5
    assert equal_error_rate(np.ones(2), np.array([True, True])) is None


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("far", [0.1, 0.3, 1 / 30])
def test_tar_is_the_best_over_all_thresholds(levels, far):
    dist, issame = pairs(50, 30, levels=levels)
    (point,) = tar_at_far(dist, issame, fars=[far])
    best = 0.0
    for threshold in [*dist, np.inf]:
        if np.mean(dist[~issame] < threshold) <= far + 1e-12:
            best = max(best, np.mean(dist[issame] < threshold))
    assert point.tar == pytest.approx(best, abs=1e-12)
    # The threshold given is the one that does it.
    assert np.mean(dist[issame] < point.threshold) == point.tar
    assert np.sum(dist[~issame] < point.threshold) == point.false_accepts
    assert point.false_accepts <= far * 30 + 1e-9


def test_too_few_impostors_give_no_number():
    dist, issame = pairs(50, 999)
    fine, coarse = tar_at_far(dist, issame, fars=[1e-2, 1e-3])
    assert fine.tar is not None and fine.reason is None
    assert (coarse.tar, coarse.threshold, coarse.false_accepts) == (None, None, None)
    assert coarse.reason == "needs at least 1,000 different pairs, there are 999"
    (enough,) = tar_at_far(*pairs(50, 1000), fars=[1e-3])
    assert enough.tar is not None


def test_rounding_of_the_rate_costs_no_false_accept():
    assert int(0.29 * 100) == 28  # what a plain product would allow
    (point,) = tar_at_far(*pairs(50, 100), fars=[0.29])
    assert point.false_accepts == 29


def test_rates_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        tar_at_far(*pairs(5, 5), fars=[1.0])


def test_roc_points_agree_with_tar_at_far():
    dist, issame = pairs(200, 500)
    far, tar = roc(dist, issame)
    assert far[0] == 1 / 500 and far[-1] == 1 and tar[-1] == 1
    assert np.all(np.diff(far) > 0) and np.all(np.diff(tar) >= 0)
    for i in range(0, len(far) - 1, 17):
        (point,) = tar_at_far(dist, issame, fars=[far[i]])
        assert point.tar == tar[i]


def test_roc_of_one_kind_is_empty():
    assert len(roc(np.ones(4), np.ones(4, bool))[0]) == 0
