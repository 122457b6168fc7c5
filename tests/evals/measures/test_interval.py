import numpy as np
import pytest

from qface_jax.evals.measures.interval import Z_95, wilson, wilson_of_mean


@pytest.mark.parametrize(("successes", "trials"), [(1, 3), (56, 57), (9000, 19557)])
def test_the_ends_are_where_the_score_test_turns(successes, trials):
    # Each end p solves (k/n - p)^2 = z^2 p (1 - p) / n.
    for end in wilson(successes, trials):
        off = (successes / trials - end) ** 2
        np.testing.assert_allclose(off, Z_95**2 * end * (1 - end) / trials, rtol=1e-9)


def test_all_and_none_have_a_width_and_end_at_the_bound():
    low, high = wilson(0, 20)
    assert low == 0.0 and 0.1 < high < 0.2
    assert wilson(20, 20) == (pytest.approx(1 - high), 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_counts_that_do_not_fit_are_refused(successes, trials):
    with pytest.raises(ValueError, match="successes of"):
        wilson(successes, trials)


def test_the_mean_of_one_rate_has_its_interval_and_that_of_two_a_narrower_one():
    assert wilson_of_mean([(7, 10)]) == pytest.approx(wilson(7, 10))
    low, high = wilson_of_mean([(7, 10), (7, 10)])
    once = wilson(7, 10)
    assert 0.7 - low == pytest.approx((0.7 - once[0]) / np.sqrt(2))
    assert high - 0.7 == pytest.approx((once[1] - 0.7) / np.sqrt(2))
