"""Search of a gallery by similarity: where each probe's mates stand in the ranking.

The gallery is walked through in blocks, and the entries that come before a mate are
counted: no ranking and no whole matrix of scores is ever held. Scores are dot products
in float64, rounded to `DECIMALS`, so that equal vectors tie in whatever block they lie.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qface_jax.processes.share import ALONE, Share

DECIMALS = 9  # of the scores
NOBODY = -1  # identity of an entry or a probe that has no mates
NEVER = np.iinfo(np.int64).max  # rank of a probe that finds no mate
# Where entries that score like the mate stand: before it, after it, or in the order of
# the gallery.
TIES = ("pessimistic", "optimistic", "index")

_SCALE = 10.0**DECIMALS
_GALLERY_BLOCK, _PROBE_BLOCK = 4096, 1024  # 32 MiB of scores at a time


class SearchResult(NamedTuple):
    """What each probe finds, [p] each.

    Attributes:
        mate: score of the best mate, float64; -inf without one that can be scored.
        nonmate: score of the best entry that is no mate, float64; -inf without one.
        above: non-mates that score more than the best mate, int64.
        equal: non-mates that score the same, int64.
        before: those of `equal` that the gallery has before the best mate, int64.
    """

    mate: np.ndarray
    nonmate: np.ndarray
    above: np.ndarray
    equal: np.ndarray
    before: np.ndarray


class Mates(NamedTuple):
    """Pairs of a probe and a gallery entry of one identity, [m] each, and [p] nonmate.

    Ordered by probe, then by falling score, then by the entry's row.

    Attributes:
        probe: number of the probe, int64.
        row: of the entry in the whole gallery, int64.
        score: of the pair, float64; -inf where one of the vectors is zero.
        above: non-mates that score more with this probe, int64.
        equal: non-mates that score the same, int64.
        before: those of `equal` of a lower row, int64.
        nonmate: of each probe the score of its best non-mate, float64 [p].
    """

    probe: np.ndarray
    row: np.ndarray
    score: np.ndarray
    above: np.ndarray
    equal: np.ndarray
    before: np.ndarray
    nonmate: np.ndarray


class SimilarityGap(NamedTuple):
    """Mean similarities of probes; None where no probe has a finite one of both.

    Attributes:
        matched: mean cosine of a probe with its own person in the gallery.
        unmatched: mean cosine of a probe with the most similar other person.
        gap: matched - unmatched.
        probes: that have both, which the means are over.
    """

    matched: float | None
    unmatched: float | None
    gap: float | None
    probes: int


def search(
    gallery: np.ndarray,
    gallery_ids: np.ndarray,
    probes: np.ndarray,
    probe_ids: np.ndarray,
    *,
    share: Share = ALONE,
    block: int = _GALLERY_BLOCK,
) -> SearchResult:
    """Returns where the best mate of each probe stands.

    Args:
        gallery: this host's rows of the gallery, unit vectors [g, d]. A zero vector
            scores -inf: it is nobody's best match.
        gallery_ids: identity of each row, int64 [g]; NOBODY (-1) mates with no probe.
        probes: all probes, the same on all hosts, unit vectors [p, d]. A zero vector
            finds nothing.
        probe_ids: identity of each probe, int64 [p]; NOBODY (-1) has no mates.
        share: this host's part.
        block: rows of the gallery at a time.

    Raises:
        ValueError: where the arrays do not fit together.
    """
    sides = _sides(gallery, gallery_ids, probes, probe_ids)
    offset = _offset(len(gallery), share)
    probe, row, score = _gathered(_pairs(*sides, offset), share)
    first = np.flatnonzero(np.diff(probe, prepend=-1))  # the best of each probe
    found = _count(
        (probe[first], row[first], score[first]), sides, offset, share, block
    )
    return _of_probes(found, np.ones(len(first), bool), len(probes))


def rank_mates(
    gallery: np.ndarray,
    gallery_ids: np.ndarray,
    probes: np.ndarray,
    probe_ids: np.ndarray,
    *,
    share: Share = ALONE,
    block: int = _GALLERY_BLOCK,
) -> Mates:
    """Returns where every mate of every probe stands; arguments as of `search`."""
    sides = _sides(gallery, gallery_ids, probes, probe_ids)
    offset = _offset(len(gallery), share)
    pairs = _gathered(_pairs(*sides, offset), share)
    return _count(pairs, sides, offset, share, block)


def search_parts(
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    probes: np.ndarray,
    probe_ids: np.ndarray,
    *,
    block: int = _GALLERY_BLOCK,
) -> tuple[list[SearchResult], SearchResult]:
    """Returns what each probe finds in several galleries, and in all of them joined.

    Each entry is compared once; this host searches alone.

    Args:
        parts: vectors [g, d] and identities [g] of each gallery, as of `search`.
        probes: unit vectors [p, d].
        probe_ids: identity of each probe, int64 [p].
        block: rows of a gallery at a time.
    """
    sides = [_sides(*part, probes, probe_ids) for part in parts]
    ends = np.cumsum([len(gallery) for gallery, _ in parts])
    offsets = [0, *ends[:-1].tolist()]
    pairs = [_pairs(*of, start) for of, start in zip(sides, offsets, strict=True)]
    mates = _gathered(tuple(map(np.concatenate, zip(*pairs, strict=True))), ALONE)
    # The best mate of each probe in each part; they come by falling score.
    part = np.searchsorted(ends, mates[1], side="right")
    first = np.unique(mates[0] * len(parts) + part, return_index=True)[1]
    first.sort()
    part, mates = part[first], tuple(values[first] for values in mates)
    counted = [
        _count(mates, of, start, ALONE, block)
        for of, start in zip(sides, offsets, strict=True)
    ]
    results = [
        _of_probes(found, part == number, len(probes))
        for number, found in enumerate(counted)
    ]
    joined = counted[0]._replace(
        above=np.sum([found.above for found in counted], axis=0),
        equal=np.sum([found.equal for found in counted], axis=0),
        before=np.sum([found.before for found in counted], axis=0),
        nonmate=np.max([found.nonmate for found in counted], axis=0),
    )
    best = np.diff(joined.probe, prepend=-1) != 0
    return results, _of_probes(joined, best, len(probes))


def similarity_gap(mate: np.ndarray, nonmate: np.ndarray) -> SimilarityGap:
    """Returns the means over the probes that have both similarities.

    >>> similarity_gap(np.array([0.75, 0.25]), np.array([0.25, 0.0])).gap
    0.375

    Args:
        mate: cosine of each probe with its own person, [p]; not finite without one.
        nonmate: that with the most similar other person, [p]; likewise.

    Raises:
        ValueError: the two are not of one length.

    References:
        QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition,
        Fig. 6.
    """
    mate, nonmate = np.asarray(mate, np.float64), np.asarray(nonmate, np.float64)
    if mate.ndim != 1 or mate.shape != nonmate.shape:
        raise ValueError(
            f"mate and nonmate must both be [p], got {mate.shape} and {nonmate.shape}"
        )
    both = np.isfinite(mate) & np.isfinite(nonmate)
    if not both.any():
        return SimilarityGap(None, None, None, 0)
    matched, unmatched = float(mate[both].mean()), float(nonmate[both].mean())
    return SimilarityGap(matched, unmatched, matched - unmatched, int(both.sum()))


def _of_probes(mates: Mates, chosen: np.ndarray, p: int) -> SearchResult:
    """Returns the chosen pairs, at most one of each of p probes, by probe."""
    mate = np.full(p, -np.inf)
    above, equal, before = (np.zeros(p, np.int64) for _ in range(3))
    probe = mates.probe[chosen]
    mate[probe], above[probe] = mates.score[chosen], mates.above[chosen]
    equal[probe], before[probe] = mates.equal[chosen], mates.before[chosen]
    return SearchResult(mate, mates.nonmate, above, equal, before)


def ranks(result: SearchResult, ties: str = "pessimistic") -> np.ndarray:
    """Returns the rank of each probe's best mate, from 1, int64 [p].

    NEVER where there is no mate, or none that can be scored.

    Args:
        result: of `search`.
        ties: one of TIES.
    """
    return np.where(np.isfinite(result.mate), 1 + preceding(result, ties), NEVER)


def preceding(result: SearchResult | Mates, ties: str = "pessimistic") -> np.ndarray:
    """Returns how many non-mates come before each mate under a rule for ties, int64."""
    if ties not in TIES:
        raise ValueError(f"ties: got {ties!r}, must be one of {', '.join(TIES)}")
    tied = {"pessimistic": result.equal, "optimistic": 0, "index": result.before}
    return result.above + tied[ties]


_Side = tuple[np.ndarray, np.ndarray]  # vectors [n, d], identities [n]
_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # probe, row, score; [m] each


def _sides(
    gallery: np.ndarray,
    gallery_ids: np.ndarray,
    probes: np.ndarray,
    probe_ids: np.ndarray,
) -> tuple[_Side, _Side]:
    sides = (gallery, np.asarray(gallery_ids)), (probes, np.asarray(probe_ids))
    for name, (vectors, ids) in zip(("gallery", "probes"), sides, strict=True):
        if np.ndim(vectors) != 2 or ids.shape != (len(vectors),):
            raise ValueError(
                f"{name}: vectors must be [n, d] and identities [n], got "
                f"{np.shape(vectors)} and {ids.shape}"
            )
    if gallery.shape[1] != probes.shape[1]:
        raise ValueError(
            f"gallery and probes must have one width, got {gallery.shape[1]} and "
            f"{probes.shape[1]}"
        )
    return sides


def _offset(count: int, share: Share) -> int:
    """Returns how many rows of the gallery the hosts before this one have."""
    counts = share.gather(np.array([count], np.int64))
    return int(counts[: share.index].sum())


def _same_identity(
    gallery_ids: np.ndarray, probe_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of a probe and an entry of its identity: probes, rows."""
    order = np.argsort(gallery_ids, kind="stable")
    known = gallery_ids[order]
    low = np.searchsorted(known, probe_ids, side="left")
    high = np.searchsorted(known, probe_ids, side="right")
    counts = np.where(probe_ids == NOBODY, 0, high - low)
    probe = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(probe)) - np.repeat(np.cumsum(counts) - counts, counts)
    return probe, order[np.repeat(low, counts) + within]


def _pairs(gallery: _Side, probes: _Side, offset: int) -> _Pairs:
    """Returns the mates among this host's rows, by probe, row within it."""
    probe, row = _same_identity(gallery[1], probes[1])
    score = np.empty(len(probe))
    for start in range(0, len(probe), _GALLERY_BLOCK):
        block = slice(start, start + _GALLERY_BLOCK)
        one = np.asarray(gallery[0][row[block]], np.float64)
        other = np.asarray(probes[0][probe[block]], np.float64)
        score[block] = np.rint(_SCALE * np.einsum("nd,nd->n", one, other)) / _SCALE
        score[block][~(one.any(axis=1) & other.any(axis=1))] = -np.inf
    return probe, row + offset, score


def _gathered(pairs: _Pairs, share: Share) -> _Pairs:
    """Returns the mates of all hosts: by probe, falling score, row."""
    probe, row, score = (share.gather(values) for values in pairs)
    order = np.lexsort((row, -score, probe))
    return probe[order], row[order], score[order]


def _count(
    pairs: _Pairs,
    sides: tuple[_Side, _Side],
    offset: int,
    share: Share,
    block: int,
) -> Mates:
    """Counts the non-mates before each pair's entry, over the gallery of all hosts.

    Args:
        pairs: of all hosts, ordered by probe.
        sides: this host's gallery, and all probes.
        offset: row of the first of this host's entries.
        share: this host's part.
        block: rows of the gallery at a time.
    """
    (gallery, gallery_ids), (probes, probe_ids) = sides
    probe, row, score = pairs
    counts = np.zeros((3, len(probe)), np.int64)
    nonmate = np.full(len(probes), -np.inf)
    for start in range(0, len(gallery), block):
        entries = slice(start, start + block)
        vectors = np.asarray(gallery[entries], np.float64)
        for first in range(0, len(probes), _PROBE_BLOCK):
            asked = slice(first, first + _PROBE_BLOCK)
            scores = _scores(vectors, probes[asked])
            ids = probe_ids[asked]
            scores[_same_identity(gallery_ids[entries], ids)] = -np.inf  # the mates
            best = scores.max(axis=1, initial=-np.inf)
            nonmate[asked] = np.maximum(nonmate[asked], best)
            part = slice(*np.searchsorted(probe, [first, first + len(ids)]))
            counts[:, part] += _preceding(
                scores,
                probe[part] - first,
                row[part] - offset - start,
                score[part],
            )
    above, equal, before = share.gather(counts[None]).sum(axis=0)
    nonmate = share.gather(nonmate[None]).max(axis=0)
    return Mates(probe, row, score, above, equal, before, nonmate)


def _scores(entries: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """Returns the rounded scores [p, g] of float64 entries; -inf of zero vectors."""
    probes = np.asarray(probes, np.float64)
    scores = (probes * _SCALE) @ entries.T
    np.rint(scores, out=scores)
    scores /= _SCALE
    scores[~probes.any(axis=1)] = -np.inf
    scores[:, ~entries.any(axis=1)] = -np.inf
    return scores


def _preceding(
    scores: np.ndarray, probe: np.ndarray, row: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Counts the entries of a block that come before each pair's.

    Args:
        scores: [p, g]; mates are -inf.
        probe: of each pair, ascending [m], as a row of `scores`.
        row: of each pair's entry, counted from the first of this block; maybe outside.
        score: of each pair [m].

    Returns:
        Entries above, equal, and equal of a lower row, int64 [3, m].
    """
    counts = np.zeros((3, len(probe)), np.int64)
    # The first pair of each probe together, then the second of those that have one.
    level = np.arange(len(probe)) - np.searchsorted(probe, probe)
    for k in range(level.max(initial=-1) + 1):
        pairs = np.flatnonzero((level == k) & np.isfinite(score))
        asked, limit = scores[probe[pairs]], score[pairs, None]
        above = np.count_nonzero(asked > limit, axis=1)
        equal = np.count_nonzero(asked >= limit, axis=1) - above
        counts[0, pairs], counts[1, pairs] = above, equal
        tied = np.flatnonzero(equal)
        same = asked[tied] == limit[tied]
        same &= np.arange(scores.shape[1]) < row[pairs[tied], None]
        counts[2, pairs[tied]] = np.count_nonzero(same, axis=1)
    return counts
