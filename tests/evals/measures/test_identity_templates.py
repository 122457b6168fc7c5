import numpy as np
import pytest

from qface_jax.evals.measures.identity_templates import identity_templates
from qface_jax.evals.measures.open_set import area, curve, tpir_at_fpir
from qface_jax.evals.measures.search import NOBODY, ranks, search
from qface_jax.evals.measures.unit import unit
from support.hosts import on_hosts
from support.protocol_goldens import golden

EXACT = 1e-15  # of a share that another order of dividing gave


@pytest.fixture(scope="module")
def recorded():
    return golden("survface_identification")


def templates(recorded, prepare=unit):
    ids = recorded["gallery_ids"].ravel().astype(int) - 1
    return identity_templates(
        prepare(recorded["gallery"]), ids, len(recorded["template_ids"])
    )


def searched(recorded, gallery):
    """Scores and ranks of the mated probes' mates, best scores of the strangers."""
    probe_ids = recorded["mated_ids"].ravel().astype(int) - 1
    strangers = np.full(len(recorded["unmated"]), NOBODY)
    result = search(
        gallery,
        np.arange(len(gallery)),
        unit(np.concatenate([recorded["mated"], recorded["unmated"]])),
        np.concatenate([probe_ids, strangers]),
        block=20,
    )
    m = len(probe_ids)
    return result.mate[:m], ranks(result)[:m], result.nonmate[m:]


def test_templates_are_the_recorded_ones(recorded):
    # Recorded from float32 features of unit length.
    np.testing.assert_allclose(
        templates(recorded), recorded["template_features"], 0, 1e-7
    )


def test_rates_are_the_recorded_ones(recorded):
    found, fpirs = searched(recorded, templates(recorded)), recorded["fpirs"]
    for rank in (1, 20):
        points = tpir_at_fpir(*found, fpirs, rank=rank)
        for field, suffix in (
            ("tpir", ""),
            ("threshold", "_threshold"),
            ("fpir_reached", "_fpir_reached"),
        ):
            values = [getattr(point, field) for point in points]
            expected = recorded[f"tpir{rank}{suffix}"]
            tolerance = 1e-7 if field == "threshold" else EXACT
            np.testing.assert_allclose(values, expected, tolerance)
    within = [np.mean(found[1] <= rank) for rank in (1, 5, 10, 20)]
    np.testing.assert_array_equal(within, recorded["closed_set_rank_1_5_10_20"])
    under = area(*curve(*found, rank=20))
    np.testing.assert_allclose(under, recorded["auc_of_tpir20_over_fpir"], 1e-12)


def test_templates_of_raw_features_are_another_number(recorded):
    found = searched(recorded, templates(recorded, np.asarray))
    points = tpir_at_fpir(*found, recorded["fpirs"], rank=20)
    values = [point.tpir for point in points]
    expected = recorded["tpir20_templates_of_raw_features"]
    np.testing.assert_allclose(values, expected, EXACT)
    assert np.any(np.array(values) != recorded["tpir20"])


def test_hosts_that_share_the_images_get_the_same_templates():
    rng = np.random.default_rng(0)
    features, ids = rng.normal(size=(301, 6)), rng.integers(0, 9, 301)
    alone = identity_templates(features, ids, 10)
    assert np.all(alone[9] == 0)
    expected = np.stack([features[ids == k].mean(axis=0) for k in range(9)])
    np.testing.assert_allclose(alone[:9], unit(expected), 0, 1e-14)

    def work(share):
        rows = share.pairs(301)
        part = slice(rows.start, rows.stop)
        return identity_templates(features[part], ids[part], 10, share=share)

    first, second = on_hosts(2, work)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, 0, 1e-14)
