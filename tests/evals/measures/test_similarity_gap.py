"""The gap of the mean similarities: plain means, and probes that lack one."""

import numpy as np
import pytest

from qface_jax.evals.measures.search import similarity_gap


def test_it_is_the_difference_of_the_means():
    mate, nonmate = np.random.default_rng(0).uniform(-1, 1, (2, 50))
    gap = similarity_gap(mate, nonmate)
    assert gap.matched == pytest.approx(sum(mate) / 50, abs=1e-15)
    assert gap.unmatched == pytest.approx(sum(nonmate) / 50, abs=1e-15)
    assert gap.gap == pytest.approx(sum(mate - nonmate) / 50, abs=1e-15)
    assert gap.probes == 50


def test_probes_without_either_are_left_out_of_both_means():
    mate = np.array([0.5, -np.inf, 0.25, np.nan])
    nonmate = np.array([0.25, 0.9, -np.inf, 0.9])
    assert similarity_gap(mate, nonmate) == (0.5, 0.25, 0.25, 1)


def test_without_probes_there_is_no_number():
    assert similarity_gap(np.empty(0), np.empty(0)) == (None, None, None, 0)
    assert similarity_gap([-np.inf], [0.5]) == (None, None, None, 0)


@pytest.mark.parametrize("nonmate", [np.zeros(2), np.zeros((3, 1))])
def test_other_lengths_are_refused(nonmate):
    with pytest.raises(ValueError, match=r"must both be \[p\], got \(3,\)"):
        similarity_gap(np.zeros(3), nonmate)
