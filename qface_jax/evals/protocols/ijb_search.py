"""IJB 1:N: probes search two galleries of different people, and their union.

Closed set: share of all probes whose subject's template is within a rank; every probe
has its subject in one of the galleries. Open set: in each gallery the probes without
their subject there set the threshold; the rate is the mean of both galleries.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sets.ijb_files import Enrolled
from qface_jax.evals.measures import open_set, search
from qface_jax.evals.measures.interval import wilson, wilson_of_mean
from qface_jax.evals.measures.open_set import OpenSetPoint
from qface_jax.evals.measures.search import SearchResult
from qface_jax.evals.protocols.ijb_verification import span
from qface_jax.evals.results import BOTH, PAGE, Column, Curve, Line, Table
from qface_jax.processes.share import Share

RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)
_CMC = 100  # ranks of the curve
_POINTS = 400  # of a curve over FPIR


@dataclasses.dataclass(frozen=True)
class GallerySearch:
    """What all probes find in one gallery.

    Attributes:
        gallery: its name, such as S1.
        templates: in the gallery.
        mated: probes whose subject is in it.
        nonmated: probes whose subject is not.
        hits: mated probes whose subject is within each of RANKS.
        at_most: TPIR at each of FPIRS, which is not exceeded.
        published: the same by the rule of the published programs.
        cmc: mated probes within rank 1, 2, ...
    """

    gallery: str
    templates: int
    mated: int
    nonmated: int
    hits: list[int]
    at_most: list[OpenSetPoint]
    published: list[OpenSetPoint]
    cmc: list[int]

    def points(self, rule: str) -> list[OpenSetPoint]:
        """Returns the points of "at_most" or "published"."""
        return self.at_most if rule == "at_most" else self.published


@dataclasses.dataclass(frozen=True)
class Searched:
    """Both galleries and their union, under one variant of the templates.

    Attributes:
        variant: its name.
        probes: that search, all of them in each gallery.
        galleries: both.
        union: the same probes in both galleries joined; another number than the mean,
            since more people are searched.
    """

    variant: str
    probes: int
    galleries: list[GallerySearch]
    union: GallerySearch

    def rate(self, rank: int) -> float:
        """Returns the closed-set rate of both galleries at one of RANKS."""
        return self._hits(rank) / self.probes

    def _hits(self, rank: int) -> int:
        return sum(one.hits[RANKS.index(rank)] for one in self.galleries)

    def interval(self, rank: int) -> tuple[float, float]:
        """Returns the 95 % interval of `rate`."""
        return wilson(min(self._hits(rank), self.probes), self.probes)

    def tpir(self, fpir: float, rule: str) -> float | None:
        """Returns the mean of the galleries' TPIR at one of FPIRS, or None."""
        points = [one.points(rule)[FPIRS.index(fpir)] for one in self.galleries]
        if any(point.tpir is None for point in points):
            return None
        return float(np.mean([point.tpir for point in points]))

    def tpir_interval(self, fpir: float, rule: str) -> tuple[float, float] | None:
        """Returns the 95 % interval of `tpir`, or None."""
        if self.tpir(fpir, rule) is None:
            return None
        place = FPIRS.index(fpir)
        return wilson_of_mean(
            [(one.points(rule)[place].identified, one.mated) for one in self.galleries]
        )


def search_all(
    variant: str,
    vectors: np.ndarray,
    galleries: Sequence[tuple[str, Enrolled]],
    probes: Enrolled,
    share: Share,
) -> tuple[Searched, dict[str, np.ndarray]]:
    """Searches both galleries and their union.

    Args:
        variant: name of the variant of the templates.
        vectors: unit template vectors, [t, d]; zero without a usable image.
        galleries: names and templates of both.
        probes: that search.
        share: this host's part of the probes.

    Returns:
        What was found; points of TPIR over FPIR, fpir_<gallery> and tpir_<gallery>.
    """
    found, arrays = [], {}
    enrolled = [gallery for _, gallery in galleries]
    union = Enrolled(
        np.concatenate([one.templates for one in enrolled]),
        np.concatenate([one.subjects for one in enrolled]),
        sum(one.rows for one in enrolled),
    )
    results, joined = search_galleries(vectors, enrolled, probes, share)
    for (name, gallery), result in zip(galleries, results, strict=True):
        mated = np.isin(probes.subjects, gallery.subjects)
        found.append(_judged(name, gallery, result, mated))
        far, rate = open_set.curve(
            result.mate[mated], search.ranks(result)[mated], result.nonmate[~mated]
        )
        # Where the rate of false alarms is 0, a logarithmic axis has no place.
        kept = np.flatnonzero(far > 0)
        step = max(1, -(-len(kept) // _POINTS))
        arrays[f"fpir_{name}"] = far[kept][::step]
        arrays[f"tpir_{name}"] = rate[kept][::step]
    mated = np.isin(probes.subjects, union.subjects)
    of_union = _judged("union", union, joined, mated)
    return Searched(variant, len(probes.templates), found, of_union), arrays


def search_galleries(
    vectors: np.ndarray, galleries: Sequence[Enrolled], probes: Enrolled, share: Share
) -> tuple[list[SearchResult], SearchResult]:
    """Returns what each probe finds in each gallery, and in all of them joined.

    A host searches with its part of the probes.
    """
    mine = share.pairs(len(probes.templates))
    part = slice(mine.start, mine.stop)
    results, joined = search.search_parts(
        [(vectors[one.templates], one.subjects) for one in galleries],
        vectors[probes.templates[part]],
        probes.subjects[part],
    )
    *results, joined = (
        SearchResult(*map(share.gather, result)) for result in (*results, joined)
    )
    return results, joined


def _judged(
    name: str, gallery: Enrolled, result: SearchResult, mated: np.ndarray
) -> GallerySearch:
    ranks = search.ranks(result)[mated]
    mates, alarms = result.mate[mated], result.nonmate[~mated]
    ordered = np.sort(ranks)
    most = min(_CMC, len(gallery.templates))
    return GallerySearch(
        gallery=name,
        templates=len(gallery.templates),
        mated=int(mated.sum()),
        nonmated=int((~mated).sum()),
        # A rank beyond the gallery's size finds what the last one does.
        hits=[int(np.searchsorted(ordered, rank, side="right")) for rank in RANKS],
        at_most=open_set.tpir_at_fpir(mates, ranks, alarms, FPIRS),
        published=open_set.tpir_at_fpir(mates, ranks, alarms, FPIRS, rule="published"),
        cmc=np.searchsorted(ordered, np.arange(1, most + 1), side="right").tolist(),
    )


def scalars(searched: Searched, rule: str) -> dict[str, float]:
    """Returns rank_<k>, rank_<k>_union and tpir_<FPIR>, maybe tpir_published_<FPIR>."""
    values: dict[str, float | None] = {
        f"rank_{rank}": searched.rate(rank) for rank in RANKS
    }
    values |= {f"tpir_{fpir:g}": searched.tpir(fpir, rule) for fpir in FPIRS}
    if rule == "at_most":
        values |= {
            f"tpir_published_{fpir:g}": searched.tpir(fpir, "published")
            for fpir in FPIRS
        }
    union = searched.union
    values |= {
        f"rank_{rank}_union": hits / searched.probes
        for rank, hits in zip(RANKS, union.hits, strict=True)
    }
    return {name: value for name, value in values.items() if value is not None}


def search_table(every: Sequence[Searched], rule: str) -> Table:
    """Returns one row for each variant, the chosen one first."""
    columns = [Column("variant", left=True)]
    columns += [Column(f"rank {rank}", "percent") for rank in RANKS]
    columns += [Column(f"TPIR@{fpir:g}", "percent") for fpir in FPIRS]
    columns += [Column(f"rank {rank}, union", "percent") for rank in RANKS]
    rows = [
        [
            one.variant,
            *(one.rate(rank) for rank in RANKS),
            *(one.tpir(fpir, rule) for fpir in FPIRS),
            *(hits / one.probes for hits in one.union.hits),
        ]
        for one in every
    ]
    first = every[0]
    return Table(
        columns,
        rows,
        f"1:N: {first.probes:,} probes, galleries of "
        f"{' and '.join(f'{one.templates:,}' for one in first.galleries)} people",
        notes=[
            "Ranks: hits of both galleries over all probes; TPIR: mean of both. Union: "
            "both galleries joined, a harder search. Equal non-mates come before the "
            "mate.",
            f"Rule of FPIR: {describe(rule)}.",
        ],
        shown=BOTH,
    )


def describe(rule: str) -> str:
    """Returns a rule of the false positive identification rate in words."""
    if rule == "at_most":
        return "at most FPIR of the probes without a mate score at least the threshold"
    return (
        "threshold is the k-th largest score of the n probes without a mate, "
        "k = max(int(n FPIR), 1), and is to be exceeded (published rule)"
    )


def galleries_table(searched: Searched) -> Table:
    """Returns the page's table: each gallery, their mean, every rate's interval."""
    columns = [Column("Gallery", left=True), Column("People", "count")]
    columns += [Column("Mated", "count"), Column("Non-mated", "count")]
    for rank in RANKS:
        group = f"Rank {rank}"
        columns += [Column("rate", "percent", group), Column("95 %", group=group)]
    for fpir in FPIRS:
        for word in ("at most", "published rule"):
            group = f"TPIR, FPIR {fpir:g} {word}"
            columns += [Column("rate", "percent", group), Column("95 %", group=group)]
    rows = [_gallery_row(one, one.mated) for one in searched.galleries]
    rows.append(_gallery_row(searched.union, searched.probes))
    mean: list[Any] = ["both", "", "", ""]
    for rank in RANKS:
        mean += [searched.rate(rank), span(searched.interval(rank))]
    for fpir in FPIRS:
        for rule in ("at_most", "published"):
            ends = searched.tpir_interval(fpir, rule)
            mean += [searched.tpir(fpir, rule), ends and span(ends)]
    return Table(
        columns,
        rows,
        f"1:N, {searched.variant}",
        footer=mean,
        notes=[
            "Both: hits of the two galleries over all probes, and mean of their TPIR. "
            "Union: both galleries joined, another protocol. Intervals: Wilson. "
            f"Published rule: {describe('published')}.",
            *(
                f"Gallery {one.gallery}: {point.reason}."
                for one in searched.galleries
                for point in one.at_most
                if point.reason is not None
            ),
        ],
        shown=PAGE,
    )


def _gallery_row(one: GallerySearch, probes: int) -> list[Any]:
    cells: list[Any] = [one.gallery, one.templates, one.mated, one.nonmated]
    for hits in one.hits:
        cells += [hits / probes, span(wilson(hits, probes))] if probes else [None, None]
    for ours, theirs in zip(one.at_most, one.published, strict=True):
        for point in (ours, theirs):
            ends = None
            if point.identified is not None:
                ends = span(wilson(point.identified, one.mated))
            cells += [point.tpir, ends]
    return cells


def curves(
    searched: Searched, points: dict[str, np.ndarray], arrays: dict[str, np.ndarray]
) -> list[Curve]:
    """Returns CMC and TPIR over FPIR; their points become arrays."""
    most = min(len(one.cmc) for one in searched.galleries)
    both = np.sum([one.cmc[:most] for one in searched.galleries], axis=0)
    arrays["cmc"] = both / searched.probes
    arrays["cmc_rank"] = np.arange(1, most + 1)
    arrays["cmc_union"] = np.array(searched.union.cmc) / searched.probes
    arrays["cmc_union_rank"] = np.arange(1, len(searched.union.cmc) + 1)
    arrays |= points
    lines = [
        Line(f"gallery {one.gallery}", f"tpir_{one.gallery}", f"fpir_{one.gallery}")
        for one in searched.galleries
        if len(points[f"fpir_{one.gallery}"])
    ]
    cmc = Curve(
        "line",
        f"Cumulative match, {searched.variant}",
        [
            Line("both galleries", "cmc", "cmc_rank"),
            Line("union", "cmc_union", "cmc_union_rank"),
        ],
        "rank",
        "share of the probes",
        "x",
    )
    if not lines:
        return [cmc]
    return [
        cmc,
        Curve(
            "line",
            f"Open set, {searched.variant}",
            lines,
            "false positive identification rate",
            "true positive identification rate",
            "x",
        ),
    ]


def details(searched: Searched) -> dict[str, Any]:
    """Returns the numbers of one variant, fit for JSON."""

    def plain(one: GallerySearch) -> dict[str, Any]:
        rules = ("at_most", "published")
        points = {rule: [p._asdict() for p in one.points(rule)] for rule in rules}
        return dataclasses.asdict(one) | points

    return {
        "variant": searched.variant,
        "probes": searched.probes,
        "galleries": [plain(one) for one in searched.galleries],
        "union": plain(searched.union),
        "rates": {f"rank_{rank}": searched.rate(rank) for rank in RANKS}
        | {
            f"tpir_{fpir:g}_{rule}": searched.tpir(fpir, rule)
            for fpir in FPIRS
            for rule in ("at_most", "published")
        },
    }
