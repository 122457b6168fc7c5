import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.evals.measures import verification
from qface_jax.evals.measures.verification import METRICS, cross_validate, distances

GRID = METRICS["euclidean"].thresholds()


def naive(dist, issame, thresholds, folds):
    """The published procedure as plain loops, one decision at a time."""
    n = len(dist)
    members, begin = [], 0
    for fold in range(folds):
        size = n // folds + (1 if fold < n % folds else 0)
        members.append(list(range(begin, begin + size)))
        begin += size

    def rates(threshold, rows):
        counts = {"tp": 0, "fp": 0, "tn": 0, "fn": 0}
        for i in rows:
            kind = ("t" if (dist[i] < threshold) == issame[i] else "f") + (
                "p" if dist[i] < threshold else "n"
            )
            counts[kind] += 1
        tp, fp, tn, fn = counts["tp"], counts["fp"], counts["tn"], counts["fn"]
        return (
            tp / (tp + fn) if tp + fn else 0.0,
            fp / (fp + tn) if fp + tn else 0.0,
            (tp + tn) / len(rows),
        )

    accuracy, tprs, fprs = [], [], []
    for fold in range(folds):
        others = [i for f in range(folds) if f != fold for i in members[f]]
        scores = [rates(t, others)[2] for t in thresholds]
        best = thresholds[scores.index(max(scores))]
        accuracy.append(rates(best, members[fold])[2])
        tprs.append([rates(t, members[fold])[0] for t in thresholds])
        fprs.append([rates(t, members[fold])[1] for t in thresholds])
    return np.array(accuracy), np.mean(tprs, 0), np.mean(fprs, 0)


def test_published_code(golden):
    found = golden("verification")
    a, b = found["embeddings"][0::2], found["embeddings"][1::2]
    # The recording subtracted in float32; one pair lies within 1e-7 of a threshold
    # and would fall on its other side in float64 (next test).
    dist = np.square(a - b).sum(axis=1)
    result = cross_validate(dist, found["issame"], thresholds=GRID, folds=10)
    np.testing.assert_allclose(result.accuracy, found["accuracy"], atol=1e-5)
    np.testing.assert_allclose(result.tpr, found["tpr"], atol=1e-5)
    np.testing.assert_allclose(result.fpr, found["fpr"], atol=1e-5)


def test_published_code_with_distances_in_float64(golden):
    found = golden("verification")
    a, b = found["embeddings"][0::2], found["embeddings"][1::2]
    dist = distances(a, b, metric="euclidean")
    np.testing.assert_allclose(dist, np.square(a - b).sum(axis=1), atol=1e-6)
    result = cross_validate(dist, found["issame"], thresholds=GRID, folds=10)
    np.testing.assert_allclose(result.accuracy, found["accuracy"], atol=1e-5)
    np.testing.assert_allclose(result.tpr, found["tpr"], atol=1e-5)
    decided = np.abs(dist[:, None] - GRID).min(axis=0) > 2e-7
    assert decided.sum() == len(GRID) - 1
    np.testing.assert_allclose(result.fpr[decided], found["fpr"][decided], atol=1e-5)


@pytest.mark.parametrize(("pairs", "folds"), [(40, 10), (37, 10), (23, 2), (10, 10)])
def test_plain_loops(pairs, folds):
    rng = np.random.default_rng(pairs)
    issame = rng.random(pairs) < 0.5
    # On the grid's own points, so that "below" and "not above" differ.
    dist = rng.choice(GRID[80:160:4], pairs) - 0.2 * issame
    grid = GRID[::5]
    result = cross_validate(dist, issame, thresholds=grid, folds=folds)
    accuracy, tpr, fpr = naive(dist, issame, grid, folds)
    np.testing.assert_allclose(result.accuracy, accuracy, atol=1e-12)
    np.testing.assert_allclose(result.tpr, tpr, atol=1e-12)
    np.testing.assert_allclose(result.fpr, fpr, atol=1e-12)


def test_a_distance_equal_to_the_threshold_is_rejected():
    result = cross_validate(
        np.array([0.5, 0.5, 0.5, 0.5]),
        np.array([True, True, True, True]),
        thresholds=np.array([0.5, 0.75]),
        folds=2,
    )
    np.testing.assert_array_equal(result.tpr, [0, 1])
    np.testing.assert_array_equal(result.threshold, [0.75, 0.75])


def test_the_smallest_of_equally_good_thresholds_is_taken():
    dist = np.array([0.1, 3.0] * 4)
    issame = np.array([True, False] * 4)
    result = cross_validate(dist, issame, thresholds=GRID, folds=4)
    np.testing.assert_allclose(result.threshold, np.full(4, 0.11))


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_separable_pairs_are_all_right(metric):
    rng = np.random.default_rng(0)
    issame = np.arange(60) % 2 == 0
    a = rng.normal(size=(60, 32))
    b = np.where(issame[:, None], 3 * a, rng.normal(size=(60, 32)))
    dist = distances(a, b, metric=metric)
    found = verification.score(dist, issame, metric=metric, folds=10)
    assert (found.accuracy, found.std, found.auc) == (1.0, 0.0, 1.0)


def test_random_pairs_are_near_chance():
    rng = np.random.default_rng(0)
    issame = rng.random(4000) < 0.5
    found = verification.score(rng.random(4000), issame, metric="euclidean", folds=10)
    assert abs(found.accuracy - 0.5) < 0.03
    assert abs(found.auc - 0.5) < 0.03


@pytest.mark.parametrize("label", [True, False])
def test_one_kind_of_pairs_has_accuracy_but_no_roc(label):
    dist = np.full(20, 1.25)
    found = verification.score(dist, np.full(20, label), metric="euclidean", folds=5)
    assert found.accuracy == 1.0
    assert found.auc is None
    assert all(point.tar is None and point.reason for point in found.tar_at_far)


def test_cosine_distance_is_one_minus_cosine():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50, 16))
    plain = [
        1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(distances(a, b, metric="cosine"), plain, atol=1e-12)


def test_distances_do_not_depend_on_the_block(monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50, 16)).astype(np.float32)
    whole = distances(a, b, metric="euclidean")
    monkeypatch.setattr(verification, "_BLOCK", 7)
    np.testing.assert_array_equal(distances(a, b, metric="euclidean"), whole)


def test_zero_features_have_a_distance():
    zero = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(distances(zero, zero, metric="euclidean"), 0)


@pytest.mark.parametrize("folds", [0, 1, 11])
def test_wrong_number_of_folds(folds):
    with pytest.raises(ConfigError, match=r"eval\.folds: got .* pairs \(10\)"):
        cross_validate(np.ones(10), np.ones(10, bool), thresholds=GRID, folds=folds)


def runs_of(*lengths):
    """Pairs of one person, then of two, and so on."""
    kinds = np.arange(len(lengths)) % 2 == 0
    return np.repeat(kinds, lengths)


@pytest.mark.parametrize(
    ("issame", "folds", "words"),
    [
        (runs_of(300, 300, 300, 300), 10, r"8 of the 10 .*eval\.folds=2$"),
        (runs_of(300, 300, 300, 300), 2, None),
        (runs_of(*[300] * 20), 10, None),
        (runs_of(*[300] * 20), 20, r"20 of the 20 .*eval\.folds=10$"),
        (runs_of(300, 300), 10, "10 of the 10 .*alternate in the file"),
        (runs_of(*[1] * 21), 10, None),
    ],
)
def test_every_fold_holds_both_kinds(issame, folds, words):
    if words is None:
        return verification.check_folds(issame, folds, "lfw")
    with pytest.raises(ConfigError, match=f"got {folds}, but {words}"):
        verification.check_folds(issame, folds, "lfw")


def test_unknown_metric_names_the_known_ones():
    with pytest.raises(ConfigError, match="cosine, euclidean"):
        verification.score(np.ones(10), np.ones(10, bool), metric="l1", folds=2)


def test_a_fold_of_lost_pairs_alone_is_refused():
    dist, issame = np.linspace(0.1, 1.9, 12), np.arange(12) % 2 == 0
    with pytest.raises(ValueError, match="lost: got all pairs of fold 1"):
        verification.cross_validate(
            dist,
            issame,
            thresholds=np.arange(0, 2, 0.1),
            folds=3,
            lost=np.isin(np.arange(12), [4, 5, 6, 7]),
        )
