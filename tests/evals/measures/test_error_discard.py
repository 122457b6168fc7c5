"""Error-versus-discard curves: by hand, with ties, at their edges."""

import numpy as np
import pytest

from qface_jax.evals.measures import error_discard
from qface_jax.evals.measures.error_discard import curve, threshold_at
from qface_jax.evals.text_table import table_lines

RNG = np.random.default_rng(0)


def pairs(same, different, quality):
    """Distances, issame and quality; quality is that of the same pairs."""
    distances = np.array([*same, *different], np.float64)
    issame = np.arange(len(distances)) < len(same)
    return distances, issame, np.array([*quality, *[9.0] * len(different)])


def test_a_curve_worked_out_by_hand():
    """Threshold 1.0; two of four are missed, the worst and the third by quality."""
    args = pairs([0.5, 1.5, 0.9, 1.2], [1.0, 2.0], [0.3, 0.1, 0.9, 0.6])
    found = curve(*args, fmr=0.5)
    assert found.threshold == 2.0 and found.fmr == 0.5
    args = pairs([0.5, 2.5, 0.9, 2.2], [1.0, 2.0], [0.3, 0.1, 0.9, 0.6])
    found = curve(*args, fmr=0.5)
    np.testing.assert_allclose(found.discarded, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.fnmr, [2 / 4, 1 / 3, 1 / 2, 0])
    np.testing.assert_allclose(found.at([0, 0.2, 0.25, 0.3, 0.9]),
                               [1 / 2, 1 / 2, 1 / 3, 1 / 3, 0])  # fmt: skip
    want = (0.25 / 2 + 0.25 / 3 + 0.25 / 2) / 0.95
    np.testing.assert_allclose(found.area(), want)
    np.testing.assert_allclose(found.area(0.25), 0.5)
    np.testing.assert_allclose(found.area(0.5), (0.25 / 2 + 0.25 / 3) / 0.5)


def test_pairs_of_equal_quality_do_not_depend_on_their_order():
    same = RNG.uniform(0, 2, 40)
    quality = RNG.integers(0, 4, 40).astype(np.float64)
    different = RNG.uniform(0.5, 2, 30)
    order = RNG.permutation(40)
    one = curve(*pairs(same, different, quality), fmr=0.1)
    other = curve(*pairs(same[order], different, quality[order]), fmr=0.1)
    np.testing.assert_allclose(one.fnmr, other.fnmr)
    # A score that says nothing leaves the rate as it is.
    flat = curve(*pairs(same, different, np.zeros(40)), fmr=0.1)
    np.testing.assert_allclose(flat.fnmr, flat.fnmr[0])
    np.testing.assert_allclose(flat.area(), flat.fnmr[0])


def test_a_better_score_has_a_smaller_area():
    same, different = RNG.uniform(0, 2, 200), RNG.uniform(1, 2, 200)
    good = curve(*pairs(same, different, -same), fmr=0.1)
    chance = curve(*pairs(same, different, RNG.normal(size=200)), fmr=0.1)
    bad = curve(*pairs(same, different, same), fmr=0.1)
    assert good.area() < chance.area() < bad.area()
    assert good.fnmr[0] == chance.fnmr[0] == bad.fnmr[0]
    # Leaving out what is missed ends at none.
    assert good.at([good.fnmr[0] + 0.01]) == 0.0


def test_the_threshold_lets_at_most_the_rate_pass():
    different = np.array([0.1, 0.2, 0.2, 0.5, 0.9])
    for fmr, want in ((0.2, 0.2), (0.4, 0.2), (0.6, 0.5), (0.8, 0.9)):
        threshold = threshold_at(different, fmr)
        assert threshold == want
        assert np.mean(different < threshold) <= fmr
    assert threshold_at(different, 0.1) is None


def test_without_pairs_of_a_kind_there_is_no_curve():
    assert curve(*pairs([], [1.0, 2.0], []), fmr=0.5) is None
    assert curve(*pairs([1.0], [2.0] * 9, [0.0]), fmr=0.01) is None


def arrays(sides=(112, 7), count=60, names=("norms", "ers")):
    """What an evaluation of so many pairs leaves; quality falls with the side."""
    found = {"issame": np.arange(count) % 2 == 0}
    for side in sides:
        easy = side / 112
        base = np.where(found["issame"], 1.2 - easy, 1.5)
        found[f"cross_{side}"] = base + RNG.uniform(0, 0.3, count)
        for name in names:
            found[f"{name}_{side}"] = easy + RNG.uniform(0, 0.1, 2 * count)
    return found


def test_the_pairs_of_all_sides_are_taken_together():
    found = arrays()
    distances, issame, quality = error_discard.mixed_pairs(found, (112, 7), "norm")
    assert len(distances) == len(issame) == len(quality) == 120
    np.testing.assert_array_equal(distances[60:], found["cross_7"])
    first, second = found["norms_112"][0::2], found["norms_7"][1::2]
    np.testing.assert_array_equal(quality[60:], np.minimum(first, second))


def test_what_is_judged_and_said():
    found = arrays()
    quality = error_discard.judge(found, (112, 7), fmr=0.1)
    assert quality["fmr"] == 0.1 and list(quality["scores"]) == ["norm", "ers"]
    for facts in quality["scores"].values():
        assert facts["rank_correlation"] > 0.8
        assert 0 <= facts["area"] <= 1 and 0 <= facts["early_area"] <= 1
    text = "\n".join(table_lines(error_discard.table(quality)))
    assert "feature norm" in text and "ERS" in text and "RI" not in text
    assert text.count(" *") == 1 and error_discard.warnings(quality) == []


def test_a_score_of_the_wrong_sign_is_said():
    found = arrays()
    for side in (112, 7):
        found[f"ers_{side}"] = -found[f"ers_{side}"]
    quality = error_discard.judge(found, (112, 7), fmr=0.1)
    (line,) = error_discard.warnings(quality)
    assert line.startswith("ERS falls as pictures get better (rank correlation -0.8")


@pytest.mark.parametrize("missing", ["cross_7", "issame"])
def test_what_is_missing_leaves_its_numbers_out(missing):
    found = arrays()
    del found[missing]
    quality = error_discard.judge(found, (112, 7), fmr=0.1)
    assert all(f["area"] is None for f in quality["scores"].values())
    assert all(f["rank_correlation"] > 0.8 for f in quality["scores"].values())
    assert "-" in "\n".join(table_lines(error_discard.table(quality)))


def test_features_that_are_not_finite_have_no_curve():
    found = arrays()
    found["ers_7"][3] = np.nan
    quality = error_discard.judge(found, (112, 7), fmr=0.1)["scores"]
    assert quality["ers"]["area"] is None is quality["ers"]["rank_correlation"]
    assert quality["norm"]["area"] is not None
    assert error_discard.judge({}, (112, 7), fmr=0.1) is None


def test_csv(tmp_path):
    found = error_discard.curves(arrays(), (112, 7), fmr=0.1)
    path = tmp_path / "new" / "curves.csv"
    error_discard.write_csv(path, [("lfw, all", n, c) for n, c in found.items()])
    lines = path.read_text().splitlines()
    assert lines[0] == "set,score,left_out,fnmr"
    assert lines[1].startswith('"lfw, all",norm,0.000000,')
    assert len(lines) == 1 + 2 * 60
