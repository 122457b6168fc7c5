import itertools

import numpy as np
import pytest

from qface_jax.evals.measures.search import (
    NEVER,
    NOBODY,
    TIES,
    preceding,
    rank_mates,
    ranks,
    search,
    search_parts,
)
from qface_jax.evals.measures.unit import unit
from support.hosts import on_hosts
from support.protocol_goldens import golden


def case(seed, *, people=8, entries=60, probes=40, width=3):
    """Few directions, so that many scores tie; some are of nobody, some are zero."""
    rng = np.random.default_rng(seed)
    gallery = rng.integers(-1, 2, (entries, width)).astype(np.float32)
    asked = rng.integers(-1, 2, (probes, width)).astype(np.float32)
    ids = rng.integers(-1, people, entries), rng.integers(-1, people + 2, probes)
    return unit(gallery), ids[0], unit(asked), ids[1]


def plain(gallery, gallery_ids, probe, identity, ties):
    """Rank, and scores of the best mate and non-mate, by sorting the whole list."""
    scores = np.round(gallery @ probe, 9)
    if not probe.any():
        return NEVER, -np.inf, -np.inf
    seen = gallery.any(axis=1)
    mates = (gallery_ids == identity) & (identity != NOBODY)
    tied = {"pessimistic": mates, "optimistic": ~mates, "index": np.zeros(len(mates))}
    listed = np.lexsort((np.arange(len(mates)), tied[ties], -scores))
    listed = listed[seen[listed]]
    best = [scores[kind & seen].max(initial=-np.inf) for kind in (mates, ~mates)]
    hits = np.flatnonzero(mates[listed])
    if not len(hits):
        return NEVER, *best
    return 1 + int(hits[0]), *best


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("seed", range(3))
def test_counting_is_sorting(seed, ties):
    gallery, gallery_ids, probes, probe_ids = arrays = case(seed)
    result = search(*arrays, block=7)
    expected = [
        plain(gallery, gallery_ids, *pair, ties)
        for pair in zip(probes, probe_ids, strict=True)
    ]
    rank, mate, nonmate = (np.array(part) for part in zip(*expected, strict=True))
    np.testing.assert_array_equal(ranks(result, ties), rank)
    np.testing.assert_array_equal(result.mate, mate)
    np.testing.assert_array_equal(result.nonmate, nonmate)
    assert (
        (rank == NEVER).any() and (rank == 1).any() and (rank[rank < NEVER] > 5).any()
    )


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_that_share_the_gallery_find_what_one_does(hosts):
    gallery, gallery_ids, probes, probe_ids = arrays = case(5)
    alone, every = search(*arrays), rank_mates(*arrays)

    def work(share):
        mine = share.pairs(len(gallery))
        rows = slice(mine.start, mine.stop)
        part = gallery[rows], gallery_ids[rows], probes, probe_ids
        return search(*part, share=share, block=9), rank_mates(*part, share=share)

    for found, mates in on_hosts(hosts, work):
        for got, want in zip((*found, *mates), (*alone, *every), strict=True):
            np.testing.assert_array_equal(got, want)


def test_every_mate_is_placed():
    gallery, gallery_ids, probes, probe_ids = arrays = case(2)
    mates = rank_mates(*arrays, block=11)
    scores = np.round(probes @ gallery.T, 9)
    scores[:, ~gallery.any(axis=1)] = -np.inf
    scores[~probes.any(axis=1)] = -np.inf
    same = (probe_ids[:, None] == gallery_ids) & (gallery_ids != NOBODY)
    assert len(mates.probe) == same.sum()
    for probe, row, score, above, equal, before in zip(*mates[:-1], strict=True):
        assert same[probe, row] and scores[probe, row] == score
        if np.isfinite(score):
            others = np.where(same[probe], -np.inf, scores[probe])
            assert above == np.sum(others > score)
            assert equal == np.sum(others == score)
            assert before == np.sum(others[:row] == score)


def test_a_collapsed_model_finds_nobody_first():
    same = np.full((50, 4), 0.5)
    ids = np.arange(50)
    result = search(same, ids, same, ids)
    assert np.all(ranks(result) == 50)
    assert np.all(ranks(result, "optimistic") == 1)
    np.testing.assert_array_equal(ranks(result, "index"), 1 + ids)


def test_equal_vectors_tie_in_whatever_block_they_lie():
    rng = np.random.default_rng(0)
    gallery = np.tile(unit(rng.normal(size=(1, 512))), (1000, 1)).astype(np.float32)
    ids = np.full(1000, NOBODY)
    ids[777] = 1
    probes = unit(rng.normal(size=(3, 512))).astype(np.float32)
    for block in (1, 13, 1000):
        result = search(gallery, ids, probes, np.ones(3, int), block=block)
        assert result.above.tolist() == [0] * 3 and result.equal.tolist() == [999] * 3
        assert result.before.tolist() == [777] * 3


def test_an_empty_gallery_answers_nothing():
    none = np.zeros((0, 4), np.float32)
    result = search(none, np.zeros(0, int), np.eye(4), np.arange(4))
    assert ranks(result).tolist() == [NEVER] * 4
    assert result.nonmate.tolist() == [-np.inf] * 4


def test_what_does_not_fit_is_refused():
    gallery, gallery_ids, probes, probe_ids = case(0)
    with pytest.raises(ValueError, match=r"gallery: .* got \(60, 3\) and \(59,\)"):
        search(gallery, gallery_ids[1:], probes, probe_ids)
    with pytest.raises(ValueError, match="one width, got 3 and 2"):
        search(gallery, gallery_ids, probes[:, :2], probe_ids)
    with pytest.raises(ValueError, match="ties: got 'kind'"):
        preceding(search(gallery, gallery_ids, probes, probe_ids), "kind")


def test_ranks_with_ties_are_the_recorded_ones():
    recorded = golden("openset_ties")
    mated = recorded["mates"].any(axis=1)
    result = search(
        np.eye(len(recorded["gallery_subject"])),
        recorded["gallery_subject"],
        recorded["sim"],
        recorded["probe_subject"],
        block=8,
    )
    for ties in TIES:
        rank = ranks(result, ties)
        np.testing.assert_array_equal(rank[mated], recorded[f"rank_{ties}"])
        assert np.all(rank[~mated] == NEVER)


@pytest.mark.parametrize("name", ["ijbb", "ijbc"])
def test_closed_set_ranks_of_ijb_are_the_recorded_ones(name):
    recorded = golden(f"{name}_identification")
    hits = np.zeros(3, int)
    for number in (1, 2):
        subjects = recorded[f"gallery{number}_subjects"]
        result = search(
            recorded[f"gallery{number}"],
            subjects,
            recorded["probes"],
            recorded["probe_subjects"],
        )
        mated = np.isin(recorded["probe_subjects"], subjects)
        rank = ranks(result)[mated]
        assert len(rank) == recorded[f"g{number}_mated_probes"]
        np.testing.assert_array_equal(rank, recorded[f"g{number}_ranks"])
        counts = [np.sum(rank <= k) for k in (1, 5, 10)]
        np.testing.assert_array_equal(counts, recorded[f"g{number}_top_counts_1_5_10"])
        np.testing.assert_allclose(
            np.sort(result.nonmate[~mated]),
            np.sort(recorded[f"g{number}_nonmated_max"]),
            atol=1e-9,
        )
        hits += counts
    mean = hits / len(recorded["probes"])
    np.testing.assert_array_equal(mean, recorded["mean_top_1_5_10"])
    union = search(
        np.concatenate([recorded["gallery1"], recorded["gallery2"]]),
        np.concatenate([recorded["gallery1_subjects"], recorded["gallery2_subjects"]]),
        recorded["probes"],
        recorded["probe_subjects"],
    )
    rank = ranks(union)
    together = [np.mean(rank <= k) for k in (1, 5, 10)]
    np.testing.assert_array_equal(
        together, recorded["union_gallery_top_1_5_10_adaface"]
    )


@pytest.mark.parametrize("levels", [0, 2])
def test_parts_and_their_union_are_searched_at_once(levels):
    rng = np.random.default_rng(4)
    gallery, probes = rng.normal(size=(60, 3)), rng.normal(size=(45, 3))
    if levels:  # ties within a part and between parts
        gallery, probes = np.rint(gallery * levels), np.rint(probes * levels)
    gallery, probes = unit(gallery), unit(probes)
    gallery[[7, 50]] = 0
    # Some people are in two parts, some in one, some in none, some entries nobody's.
    ids, wanted = rng.integers(-1, 20, 60), rng.integers(-1, 25, 45)
    cuts = [0, 25, 26, 60]
    parts = [
        (gallery[a:b], ids[a:b]) for a, b in itertools.pairwise(cuts)
    ]  # fmt: skip
    results, joined = search_parts(parts, probes, wanted, block=9)
    for part, result in zip(parts, results, strict=True):
        for ours, alone in zip(result, search(*part, probes, wanted), strict=True):
            np.testing.assert_array_equal(ours, alone)
    for ours, whole in zip(joined, search(gallery, ids, probes, wanted), strict=True):
        np.testing.assert_array_equal(ours, whole)
