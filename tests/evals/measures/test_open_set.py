import numpy as np
import pytest

from qface_jax.evals.measures.open_set import area, curve, tpir_at_fpir
from qface_jax.evals.measures.search import ranks, search
from support.protocol_goldens import golden

EXACT = 1e-15  # of a share that another order of dividing gave


def searched(recorded, ties="pessimistic"):
    """Scores of the mated probes' mates, their ranks, best scores of the others."""
    mated = recorded["mates"].any(axis=1)
    # The scores themselves as probes: one axis for each gallery entry, all its own.
    owner = np.where(mated, recorded["mates"].argmax(axis=1), -1)
    entries = recorded["sim"].shape[1]
    result = search(np.eye(entries), np.arange(entries), recorded["sim"], owner)
    return result.mate[mated], ranks(result, ties)[mated], result.nonmate[~mated]


def fields(points, *names):
    return [np.array([getattr(point, name) for point in points]) for name in names]


def test_pfe_recording():
    recorded = golden("openset_pfe")
    found = searched(recorded)
    assert len(found[2]) == recorded["nonmated"]
    for column, rank in enumerate(recorded["ranks"]):
        points = tpir_at_fpir(*found, recorded["fpirs"], rank=rank)
        (tpir,) = fields(points, "tpir")
        np.testing.assert_allclose(tpir, recorded["tpir_at_most"][:, column], EXACT)
        points = tpir_at_fpir(*found, recorded["fpirs"], rank=rank, rule="rounded")
        tpir, threshold, reached = fields(points, "tpir", "threshold", "fpir_reached")
        # Recorded in float32.
        np.testing.assert_array_equal(tpir.astype("f4"), recorded["dir"][:, column])
        np.testing.assert_array_equal(reached.astype("f4"), recorded["fpir_reached"])
        np.testing.assert_allclose(threshold, recorded["thresholds"], 1e-7)
    closed = [np.float32(np.mean(found[1] <= rank)) for rank in recorded["ranks"]]
    np.testing.assert_array_equal(closed, recorded["closed_set"])


def test_recording_with_ties():
    recorded = golden("openset_ties")
    found, fpirs = searched(recorded), recorded["fpirs"]
    for rank in (1, 5, 10):
        points = tpir_at_fpir(*found, fpirs, rank=rank)
        tpir, threshold, reached = fields(points, "tpir", "threshold", "fpir_reached")
        name = f"tpir{rank}"
        np.testing.assert_allclose(tpir, recorded[f"{name}_at_most"], EXACT)
        np.testing.assert_array_equal(threshold, recorded[f"{name}_threshold"])
        np.testing.assert_allclose(reached, recorded[f"{name}_fpir_reached"], EXACT)
    points = tpir_at_fpir(*found, fpirs, rule="published")
    tpir, threshold = fields(points, "tpir", "threshold")
    np.testing.assert_array_equal(threshold, recorded["ijb_evals_threshold"])
    expected = recorded["tpir1_published_rule_ties_pessimistic"]
    np.testing.assert_allclose(tpir, expected, EXACT)


@pytest.mark.parametrize("name", ["ijbb", "ijbc"])
def test_ijb_recordings(name):
    recorded = golden(f"{name}_identification")
    fpirs, grid = recorded["fpirs"], recorded["class_far_grid"]
    means = {"": [], "_at_most": [], "grid": []}
    for number in (1, 2):
        subjects = recorded[f"gallery{number}_subjects"]
        result = search(
            recorded[f"gallery{number}"],
            subjects,
            recorded["probes"],
            recorded["probe_subjects"],
        )
        mated = np.isin(recorded["probe_subjects"], subjects)
        found = result.mate[mated], ranks(result)[mated], result.nonmate[~mated]
        for rule, suffix in (("published", ""), ("at_most", "_at_most")):
            points = tpir_at_fpir(*found, fpirs, rule=rule)
            for field in ("tpir", "threshold", "fpir_reached"):
                (values,) = fields(points, field)
                expected = recorded[f"g{number}_{field}{suffix}"]
                tolerance = 1e-8 if field == "threshold" else EXACT
                np.testing.assert_allclose(values, expected, tolerance)
            means[suffix].append(fields(points, "tpir")[0])
        for rank in (5, 20):
            (tpir,) = fields(tpir_at_fpir(*found, fpirs, rank=rank), "tpir")
            expected = recorded[f"g{number}_tpir{rank}_at_most"]
            np.testing.assert_allclose(tpir, expected, EXACT)
        points = tpir_at_fpir(*found, grid, rule="published")
        means["grid"].append(fields(points, "tpir")[0])
    for suffix in ("", "_at_most"):
        expected = recorded[f"mean_tpir{suffix}"]
        np.testing.assert_allclose(np.mean(means[suffix], axis=0), expected, EXACT)
    expected = recorded["class_mean_tpir_grid"]
    np.testing.assert_allclose(np.mean(means["grid"], axis=0), expected, EXACT)
    wrong = recorded["wrong_adaface_and_ijb_1n_tpir_at_0.01_0.1"]
    for suffix in ("", "_at_most"):
        assert not np.any(np.mean(means[suffix], axis=0)[1:3] == wrong)


def test_at_most_is_the_best_over_all_thresholds():
    rng = np.random.default_rng(0)
    mate, other = (rng.integers(0, 9, n) / 8 for n in (60, 37))
    rank = rng.integers(1, 4, 60)
    for fpir in (0.0, 0.1, 10 / 37, 1.0):
        (point,) = tpir_at_fpir(mate, rank, other, [fpir], rank=2)
        best = max(
            np.mean((mate >= t) & (rank <= 2))
            for t in [*mate, *other, 2]
            if np.mean(other >= t) <= fpir + 1e-12
        )
        assert point.tpir == best == point.identified / 60
        assert np.mean(other >= point.threshold) == point.fpir_reached


def test_a_rate_that_the_probes_cannot_tell_from_0_says_so():
    mate, rank, other = np.array([0.9, 0.5]), np.ones(2), np.array([0.6, 0.2, 0.1])
    low, high = tpir_at_fpir(mate, rank, other, [0.01, 0.34])
    assert (low.tpir, low.fpir_reached) == (0.5, 0)
    assert low.threshold == np.nextafter(0.6, 1)
    assert low.reason == "3 probes without a mate cannot tell 0.01 from 0"
    assert (high.tpir, high.fpir_reached, high.reason) == (1, 1 / 3, None)


def test_a_product_that_rounds_down_loses_no_false_alarm():
    assert int(0.29 * 100) == 28
    (point,) = tpir_at_fpir([0.5], [1], np.arange(100), [0.29])
    assert point.fpir_reached == 0.29


def test_scores_that_are_all_the_same_identify_nobody():
    for rule in ("at_most", "published"):
        for point in tpir_at_fpir(np.ones(5), np.ones(5), np.ones(9), [0.01, 0.3],
                                  rule=rule):  # fmt: skip
            assert (point.tpir, point.fpir_reached) == (0, 0)


def test_without_probes_of_a_kind_there_is_no_number():
    (point,) = tpir_at_fpir([0.5], [1], [], [0.1])
    assert point[1:5] == (None, None, None, "no probes without a mate")
    (point,) = tpir_at_fpir([], [], [0.5], [0.1])
    assert point[1:5] == (None, None, None, "no probes with a mate")
    assert area(*curve([], [], [0.5])) is None


def test_the_curve_goes_from_no_alarm_to_nothing_but():
    mate, rank, other = np.array([0.9, 0.5, 0.4]), np.array([1, 1, 9]), [0.6, 0.5, 0.1]
    fpir, tpir = curve(mate, rank, other)
    np.testing.assert_allclose(fpir, [0, 0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(tpir, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert area(fpir, tpir) == pytest.approx((1 / 3 + 1 / 2 + 2 / 3) / 3)


def test_what_cannot_be_rated_is_refused():
    with pytest.raises(ValueError, match="rule: got 'exact', must be one of at_most"):
        tpir_at_fpir([1.0], [1], [0.5], [0.1], rule="exact")
    with pytest.raises(ValueError, match="from 0 to 1"):
        tpir_at_fpir([1.0], [1], [0.5], [10])
    with pytest.raises(ValueError, match="NaN"):
        tpir_at_fpir([np.nan], [1], [0.5], [0.1])
