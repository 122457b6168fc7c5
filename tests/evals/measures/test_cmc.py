import numpy as np
import pytest

from qface_jax.evals.measures.cmc import average_precision, cmc, first_ranks
from qface_jax.evals.measures.search import NEVER, NOBODY, TIES, rank_mates
from qface_jax.evals.measures.unit import unit
from support.hosts import on_hosts
from support.protocol_goldens import golden

RECORDINGS = ("tinyface_plain", "tinyface_ties")
ROUNDING = 1e-14  # of means that were added in another order


def sides(recorded, prepare=unit):
    """Gallery (mates, then distractors) and probes with their identities."""
    mates, others = recorded["gallery"], recorded["distractor"]
    ids = recorded["gallery_ids"].ravel().astype(int)
    gallery = prepare(np.concatenate([mates, others]))
    gallery_ids = np.concatenate([ids, np.full(len(others), NOBODY)])
    probe_ids = recorded["probe_ids"].ravel().astype(int)
    return gallery, gallery_ids, prepare(recorded["probe"]), probe_ids


def check(mates, recorded, name, ties):
    precision = average_precision(mates, ties)
    np.testing.assert_allclose(precision, recorded[f"{name}_ap_official"], 0, ROUNDING)
    rate = cmc(first_ranks(mates, ties), 60)
    np.testing.assert_array_equal(rate, recorded[f"{name}_cmc_official"])
    mean = recorded[f"{name}_map_official"]
    np.testing.assert_allclose(precision.mean(), mean, 0, ROUNDING)
    np.testing.assert_array_equal(
        rate[recorded["ranks"] - 1], recorded[f"{name}_rank_1_5_10_20_50_official"]
    )


@pytest.mark.parametrize("recording", RECORDINGS)
def test_the_official_procedure(recording):
    """Which breaks ties by the order of the gallery: its sort is stable."""
    recorded = golden(recording)
    check(rank_mates(*sides(recorded), block=50), recorded, "unit", "index")


@pytest.mark.parametrize("recording", RECORDINGS)
def test_the_official_procedure_on_features_of_any_length(recording):
    """The nearest is the one of the largest product less half its squared length."""
    recorded = golden(recording)
    gallery, gallery_ids, probes, probe_ids = sides(recorded, np.float64)
    half = np.square(gallery).sum(axis=1, keepdims=True) / 2
    gallery = np.concatenate([gallery, -half], axis=1)
    probes = np.concatenate([probes, np.ones((len(probes), 1))], axis=1)
    mates = rank_mates(gallery, gallery_ids, probes, probe_ids)
    check(mates, recorded, "raw", "index")
    assert recorded["raw_map_official"] < recorded["unit_map_official"]


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("recording", RECORDINGS)
def test_cosine_under_each_rule_for_ties(recording, ties):
    recorded = golden(recording)
    mates = rank_mates(*sides(recorded), block=64)
    rate = cmc(first_ranks(mates, ties), 50)[recorded["ranks"] - 1]
    np.testing.assert_array_equal(rate, recorded[f"cos_rank_{ties}"])
    mean = average_precision(mates, ties).mean()
    np.testing.assert_allclose(mean, recorded[f"cos_map_{ties}"], 0, ROUNDING)
    assert abs(mean - recorded["map_standard_not_the_protocol"]) > 0.02
    for name in ("unit_map_official_unstable_sort", "raw_map_official_unstable_sort"):
        assert recording == "tinyface_plain" or abs(mean - recorded[name]) > 1e-6


def test_hosts_that_share_the_gallery_find_what_one_does():
    gallery, gallery_ids, probes, probe_ids = arrays = sides(golden("tinyface_ties"))
    alone = average_precision(rank_mates(*arrays))

    def work(share):
        mine = share.pairs(len(gallery))
        rows = slice(mine.start, mine.stop)
        mates = rank_mates(
            gallery[rows], gallery_ids[rows], probes, probe_ids, share=share
        )
        return average_precision(mates)

    for found in on_hosts(2, work):
        np.testing.assert_array_equal(found, alone)


def test_trapezoids_by_hand():
    """Mates at the 2nd and 3rd of four places: precision 0, 1/2 and 1/2, 2/3."""
    gallery = np.array([[0.9], [0.8], [0.7], [0.6]])
    mates = rank_mates(gallery, np.array([NOBODY, 1, 1, NOBODY]), np.ones((1, 1)),
                       np.array([1]))  # fmt: skip
    assert first_ranks(mates).tolist() == [2]
    expected = ((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2
    assert average_precision(mates).tolist() == [pytest.approx(expected)]


def test_what_cannot_be_scored_adds_nothing():
    gallery = np.array([[1.0, 0], [0, 0], [0, 1]])
    probes = np.array([[1.0, 0], [0, 0], [0, 1], [1, 0]])
    ids = np.array([1, 1, 2])
    mates = rank_mates(gallery, ids, probes, np.array([1, 1, 1, 7]))
    for ties in TIES:
        assert first_ranks(mates, ties).tolist() == [1, NEVER, 2, NEVER]
        # Half the mates of the first; the third finds one at the second place.
        expected = [1 / 2, 0, (0 + 1 / 2) / 2 / 2, 0]
        assert average_precision(mates, ties).tolist() == expected


def test_a_rank_above_the_gallery_counts_every_probe_with_a_mate():
    ranks = np.array([1, 2, NEVER, 3])
    assert cmc(ranks, 50)[-1] == 3 / 4
