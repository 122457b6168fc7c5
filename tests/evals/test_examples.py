"""The worst pairs and probes, and whom probes found."""

import numpy as np
import pytest

from qface_jax.evals import examples
from qface_jax.evals.measures.search import search
from qface_jax.processes.share import ALONE
from support.hosts import on_hosts

INF = np.inf


def test_the_worst_pairs():
    scores = np.array([0.9, 0.1, 0.8, 0.2, np.nan, -INF, 0.95])
    genuine = np.array([False, True, False, True, True, True, True])
    pairs = examples.worst(scores, genuine)
    assert pairs.false_matches.tolist() == [0, 2]
    assert pairs.false_nonmatches.tolist() == [1, 3, 6]
    images = np.arange(14).reshape(7, 2)
    shown = examples.of_pairs(scores, genuine, images)
    assert [one.images for one in shown] == [[0, 1], [4, 5], [2, 3], [6, 7], [12, 13]]
    assert [one.group for one in shown[1:3]] == [
        "worst false matches", "worst false non-matches"
    ]  # fmt: skip
    assert shown[0].score == 0.9


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_the_lowest(count):
    values = np.random.default_rng(count).integers(0, 9, count).astype(float)
    values[::3] = -INF  # what cannot be compared does not push others out
    finite = np.flatnonzero(np.isfinite(values))
    expected = finite[np.argsort(values[finite], kind="stable")][: examples.WORST]
    found = examples.lowest(values)
    assert values[found].tolist() == values[expected].tolist()
    assert len(set(found.tolist())) == len(found)


def test_missed_probes():
    mate = np.array([0.9, 0.1, 0.5, -INF, 0.3, -INF])
    nonmate = np.array([0.2, 0.7, 0.5, 0.9, 0.4, -INF])
    assert examples.missed(mate, nonmate).tolist() == [1, 4, 2]


@pytest.mark.parametrize("hosts", [1, 3])
def test_whom_probes_found(monkeypatch, hosts):
    monkeypatch.setattr(examples, "_BLOCK", 4)
    rng = np.random.default_rng(0)
    gallery, probes = rng.normal(size=(23, 5)), rng.normal(size=(7, 5))
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    gallery[[2, 9]] = gallery[20]  # of equal scores the first row
    gallery[5] = 0  # nobody
    ids, wanted = np.arange(23) % 4, np.array([0, 1, 2, 3, -1, 2, 9])
    ids[5] = -1

    def work(share):
        rows = share.pairs(len(gallery))
        part = slice(rows.start, rows.stop)
        return examples.nearest(gallery[part], ids[part], probes, wanted, share=share)

    scores = (probes @ gallery.T).round(9)
    scores[:, 5] = -INF
    same = (ids == wanted[:, None]) & (wanted >= 0)[:, None]
    found = on_hosts(hosts, work) if hosts > 1 else [work(ALONE)]
    for nearest in found:
        other = np.where(same, -INF, scores).argmax(axis=1)
        assert nearest.other.tolist() == other.tolist()
        mate = np.where(same, scores, -INF)
        expected = np.where(same.any(axis=1), mate.argmax(axis=1), -1)
        assert nearest.mate.tolist() == expected.tolist()
    result = search(gallery, ids, probes, wanted)
    rows = np.arange(7), found[0].other
    np.testing.assert_array_equal(result.nonmate, scores[rows])


def test_probes_beside_whom_they_found():
    (one,) = examples.of_probes(
        "misses", np.array([0.5]), [np.array([k]) for k in "312"]
    )
    assert (one.group, one.score, one.images) == ("misses", 0.5, [3, 1, 2])
