import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.evals.measures import rates
from qface_jax.evals.measures.pairs_on_grid import fold_accuracy, tar_on_grid
from qface_jax.evals.measures.verification import distances
from support.protocol_goldens import golden

FARS = (0.3, 0.1, 0.01, 0.001)


@pytest.fixture(scope="module")
def recorded():
    return golden("survface_verification")


@pytest.fixture(scope="module")
def kinds(recorded):
    """Distances of the pairs of one person, and of two."""
    return [
        np.sqrt(
            distances(
                *recorded["features"][recorded[kind]].swapaxes(0, 1), metric="euclidean"
            )
        )
        for kind in ("positive", "negative")
    ]


def test_distances_are_the_recorded_ones(recorded, kinds):
    for kind, values in zip(("positive", "negative"), kinds, strict=True):
        # Recorded from float32 features of unit length.
        np.testing.assert_allclose(values, recorded[f"{kind}_distance"], 0, 1e-6)


def test_rates_on_the_grid_are_the_recorded_ones(recorded, kinds):
    expected = recorded["official_like_tar_at_far_30_10_1_01"]
    np.testing.assert_allclose(tar_on_grid(*kinds, FARS), expected, 0, 1e-12)
    accuracy, threshold = fold_accuracy(*kinds)
    np.testing.assert_allclose(
        accuracy, recorded["official_like_fold_accuracy"], 0, 1e-12
    )
    np.testing.assert_allclose(
        threshold, recorded["official_like_fold_thresholds"], 0, 1e-12
    )


def test_exact_rates_are_the_recorded_ones(recorded, kinds):
    scores = rates.Scores(*(np.sort(-values) for values in kinds))
    tar = [point.tar for point in rates.tar_at_far(scores, FARS)]
    np.testing.assert_array_equal(tar, recorded["tar_at_most_30_10_1_01"])
    np.testing.assert_allclose(rates.auc(scores), recorded["auc"], 1e-14)
    np.testing.assert_allclose(rates.auc(scores), recorded["official_like_auc"], 1e-14)
    np.testing.assert_allclose(rates.eer(scores), recorded["eer"], 1e-14)


def test_lines_join_the_thresholds_of_the_grid():
    """FAR 0, 1/2, 1 at TAR 0, 1/3, 1: none of the points is a wanted rate."""
    same, different = np.array([0.5, 1.5, 1.5]), np.array([0.5, 1.5])
    assert tar_on_grid(same, different, [0.25, 0.75]) == pytest.approx([1 / 6, 2 / 3])


def test_pairs_left_over_are_not_used():
    rng = np.random.default_rng(0)
    same, different = rng.uniform(0.5, 1.3, 49), rng.uniform(0.9, 1.8, 49)
    accuracy, _ = fold_accuracy(same, different)
    same[40:], different[40:] = 2, 0
    np.testing.assert_array_equal(fold_accuracy(same, different)[0], accuracy)
    with pytest.raises(ConfigError, match="ten pairs of each kind, got 9 and 49"):
        fold_accuracy(same[:9], different)
