"""What SCface's protocols compare: searches at each distance, and verification."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.scface import DISTANCES, METRES, MUGSHOT, Annotations
from qface_jax.evals import examples
from qface_jax.evals.measures import rates, search
from qface_jax.evals.protocols import identification
from qface_jax.evals.protocols.identification import MISSED
from qface_jax.evals.results import PAGE, Column, Curve, Example, Line, Table

RANKS = (1, 5, 10, 20)
COMBINED = 0  # in place of a distance: all of them
_UNSCORED = -2.0  # of pairs with an unusable image: below every cosine


class Search(NamedTuple):
    """One way to choose probes and gallery.

    Attributes:
        key: beginning of its scalars.
        title: in tables.
        probes: subjects that are looked for.
        gallery: subjects whose mugshots are searched.
    """

    key: str
    title: str
    probes: range
    gallery: range


SEARCHES = (
    Search("a", "A", range(1, 131), range(1, 131)),
    Search("b130", "B, gallery 130", range(51, 131), range(1, 131)),
    Search("b80", "B, gallery 80", range(51, 131), range(51, 131)),
)
DEV, EVAL = range(44, 88), range(88, 131)  # subjects of protocol C


@dataclasses.dataclass(frozen=True)
class Ranked:
    """What the probes of one distance find.

    Attributes:
        distance: 1 (4.20 m), 2 (2.60 m) or 3 (1.00 m).
        probes: their count, unusable ones among them.
        gallery: mugshots that they search.
        hits: probes whose mugshot is within each rank of RANKS.
        hits_optimistic: the same where ties favour the mugshot.
        cmc: share of the probes whose mugshot is within rank 1, 2 .. gallery.
    """

    distance: int
    probes: int
    gallery: int
    hits: list[int]
    hits_optimistic: list[int]
    cmc: list[float]


@dataclasses.dataclass(frozen=True)
class Verified:
    """Protocol C at one distance; None where pairs of a kind are missing.

    Attributes:
        distance: 1, 2, 3, or COMBINED.
        dev: count of probes, equal error rate and rank-1 rate of subjects 44-87.
        eval: the same of subjects 88-130.
        threshold: of the score, where the errors of `dev` are nearest to each other.
        fmr: share of the impostor pairs of `eval` that it accepts.
        fnmr: share of the genuine pairs of `eval` that it refuses.
        pairs: genuine and impostor pairs of `eval`.
    """

    distance: int
    dev: dict[str, Any]
    eval: dict[str, Any]
    threshold: float | None
    fmr: float | None
    fnmr: float | None
    pairs: tuple[int, int]


class Similar(NamedTuple):
    """Cosines of the probes of one distance in protocol A, [p]; -inf without one.

    Attributes:
        distance: 1, 2 or 3.
        matched: of each probe with its own mugshot.
        unmatched: with the most similar mugshot of another person.
    """

    distance: int
    matched: np.ndarray
    unmatched: np.ndarray

    @property
    def gap(self) -> search.SimilarityGap:
        """The means of the two, and what lies between them."""
        return search.similarity_gap(self.matched, self.unmatched)


def at(distance: int) -> str:
    """Returns the distance of the camera in words."""
    return f"{METRES[distance]:.2f} m"


def search_distances(
    vectors: np.ndarray, rows: Annotations, one: Search, *, ties: str = "pessimistic"
) -> list[Ranked]:
    """Returns what the probes of each distance find.

    Args:
        vectors: unit, zero for an unusable image, [n, d].
        rows: of the same images, as of `Scface.rows`.
        one: which probes and which mugshots.
        ties: one of `search.TIES`.
    """
    subjects, mugshots = rows.subjects, rows.cameras == MUGSHOT
    gallery = mugshots & np.isin(subjects, one.gallery)
    tables = []
    for distance in DISTANCES:
        probes = (rows.distances == distance) & np.isin(subjects, one.probes)
        result = search.search(
            vectors[gallery], subjects[gallery], vectors[probes], subjects[probes]
        )
        ranks = search.ranks(result, ties)
        size = int(gallery.sum())
        within = np.searchsorted(np.sort(ranks), 1 + np.arange(size), side="right")
        best = search.ranks(result, "optimistic")
        count = int(probes.sum())
        tables.append(
            Ranked(
                distance=distance,
                probes=count,
                gallery=size,
                hits=[int(np.sum(ranks <= rank)) for rank in RANKS],
                hits_optimistic=[int(np.sum(best <= rank)) for rank in RANKS],
                cmc=(within / max(count, 1)).tolist(),
            )
        )
    return tables


def worst_frames(vectors: np.ndarray, rows: Annotations) -> list[Example]:
    """Returns the frames that lie furthest from their mugshots, in protocol A.

    Args:
        vectors: unit, zero for an unusable image, [n, d].
        rows: of the same images, as of `Scface.rows`.
    """
    mugshots = np.flatnonzero(rows.cameras == MUGSHOT)
    frames = np.flatnonzero(rows.cameras != MUGSHOT)
    gallery = vectors[mugshots], rows.subjects[mugshots]
    found = search.search(*gallery, vectors[frames], rows.subjects[frames])
    worst = examples.missed(found.mate, found.nonmate)
    chosen = frames[worst]
    near = examples.nearest(*gallery, vectors[chosen], rows.subjects[chosen])
    return examples.of_probes(
        MISSED,
        found.nonmate[worst],
        (chosen, mugshots[near.other], mugshots[near.mate]),
    )


def verify(vectors: np.ndarray, rows: Annotations, distance: int) -> Verified:
    """Follows protocol C at a distance: each probe against each mugshot of its group.

    Args:
        vectors: unit, zero for an unusable image, [n, d].
        rows: of the same images, as of `Scface.rows`.
        distance: 1, 2, 3, or COMBINED for all.
    """
    (dev, dev_facts), (test, test_facts) = (
        _group(vectors, rows, distance, subjects) for subjects in (DEV, EVAL)
    )
    threshold = fmr = fnmr = None
    if all(map(len, dev)) and all(map(len, test)):
        errors = rates.det(dev)
        threshold = float(errors.threshold[np.argmin(np.abs(errors.fmr - errors.fnmr))])
        fmr = float(np.mean(test.impostor >= threshold))
        fnmr = float(np.mean(test.genuine < threshold))
    return Verified(
        distance=distance,
        dev=dev_facts,
        eval=test_facts,
        threshold=threshold,
        fmr=fmr,
        fnmr=fnmr,
        pairs=(len(test.genuine), len(test.impostor)),
    )


def _group(
    vectors: np.ndarray, rows: Annotations, distance: int, subjects: range
) -> tuple[rates.Scores, dict[str, Any]]:
    """Returns the scores of a group's pairs, and what is said of the group."""
    inside = np.isin(rows.subjects, subjects)
    gallery = inside & (rows.cameras == MUGSHOT)
    probes = inside & (rows.cameras != MUGSHOT)
    if distance != COMBINED:
        probes &= rows.distances == distance
    asked, known = vectors[probes], vectors[gallery]
    scores = np.round(np.einsum("pd,gd->pg", asked, known), search.DECIMALS)
    scores[~asked.any(axis=1)] = _UNSCORED
    scores[:, ~known.any(axis=1)] = _UNSCORED
    genuine = rows.subjects[probes][:, None] == rows.subjects[gallery]
    pairs = rates.split(scores.ravel(), genuine.ravel())
    best = np.where(genuine, scores, -np.inf).max(axis=1, initial=-np.inf)
    rival = np.where(genuine, -np.inf, scores).max(axis=1, initial=-np.inf)
    hits = int(np.sum((best > rival) & (best > _UNSCORED)))
    count = int(probes.sum())
    return pairs, {
        "probes": count,
        "eer": rates.eer(pairs),
        "rank1": hits / count if count else None,
    }


def cmc_curves(searches: dict[str, list[Ranked]]) -> list[Curve]:
    """The share of the probes that are found within each rank, by distance."""
    curves = []
    for one in SEARCHES:
        lines = [
            Line(
                at(ranked.distance),
                [100 * share for share in ranked.cmc],
                [float(rank) for rank in range(1, ranked.gallery + 1)],
            )
            for ranked in searches[one.key]
            if ranked.probes
        ]
        title = f"Cumulative match, protocol {one.title}"
        if lines:
            drawn = identification.cmc_curve(lines)
            curves.append(dataclasses.replace(drawn, title=title))
    return curves


def similarities(vectors: np.ndarray, rows: Annotations) -> list[Similar]:
    """Returns what QGFace's Fig. 6 shows, of the probes at each distance.

    Args:
        vectors: unit, zero for an unusable image, [n, d].
        rows: of the same images, as of `Scface.rows`.
    """
    mugshots = rows.cameras == MUGSHOT
    by_distance = []
    for distance in DISTANCES:
        probes = ~mugshots & (rows.distances == distance)
        result = search.search(
            vectors[mugshots],
            rows.subjects[mugshots],
            vectors[probes],
            rows.subjects[probes],
        )
        by_distance.append(Similar(distance, result.mate, result.nonmate))
    return by_distance


def gaps(similar: list[Similar]) -> dict[str, float]:
    """Returns a_matched_d<distance>, a_unmatched_d<distance> and their a_gap_d<...>."""
    values: dict[str, float] = {}
    for one in similar:
        gap = one.gap
        for name in ("matched", "unmatched", "gap"):
            if (value := getattr(gap, name)) is not None:
                values[f"a_{name}_d{one.distance}"] = value
    return values


def gap_table(similar: list[Similar]) -> Table:
    """Returns the mean similarities at each distance."""
    body = []
    for one in similar:
        gap = one.gap
        means = (gap.matched, gap.unmatched, gap.gap)
        texts = ["-" if mean is None else f"{mean:.4f}" for mean in means]
        body.append([at(one.distance), gap.probes, *texts])
    return Table(
        title="Mean similarity, protocol A",
        columns=[
            Column("Distance", left=True),
            Column("Probes", "count"),
            Column("Matched"),
            Column("Most similar unmatched"),
            Column("Gap", strong=True),
        ],
        rows=body,
        notes=["Cosines of a probe with its own mugshot and with the nearest other."],
        shown=PAGE,
    )


def similarity_arrays(similar: list[Similar]) -> dict[str, np.ndarray]:
    """Returns the finite cosines that `similarity_curves` draws, by array name."""
    return {
        f"{name}_d{one.distance}": values[np.isfinite(values)].astype(np.float32)
        for one in similar
        for name, values in (("matched", one.matched), ("unmatched", one.unmatched))
    }


def similarity_curves(similar: list[Similar]) -> list[Curve]:
    """Returns a histogram for each distance, the gap of the means in its title."""
    curves = []
    for one in similar:
        gap = one.gap.gap
        if gap is not None:
            curves.append(
                Curve(
                    "histogram",
                    f"Similarity at {at(one.distance)}, gap {gap:.3f}",
                    [
                        Line("matched", f"matched_d{one.distance}"),
                        Line("most similar unmatched", f"unmatched_d{one.distance}"),
                    ],
                    xlabel="cosine with a mugshot",
                    ylabel="probes, %",
                )
            )
    return curves
