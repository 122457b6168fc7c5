"""SCface: frames of surveillance cameras at three distances against mugshots.

Three protocols that papers mix, from one embedding of the set:
A, all frames search all 130 mugshots; B, the frames of subjects 051 to 130 search 130
or 80 mugshots, so that subjects 001 to 050 may have been trained on; C, verification
whose threshold subjects 044 to 087 choose for subjects 088 to 130.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.scface import (
    DISTANCES,
    METRES,
    MUGSHOT,
    Annotations,
    Scface,
    open_scface,
)
from qface_jax.errors import DataError
from qface_jax.evals.embedded import Health, diagnose
from qface_jax.evals.measures import rates, search
from qface_jax.evals.measures.interval import wilson
from qface_jax.evals.measures.unit import unit
from qface_jax.evals.protocols.protocol import (
    Embedder,
    EvalSettings,
    ProtocolEntry,
)
from qface_jax.evals.protocols.whole_set import embed_whole
from qface_jax.evals.results import (
    BOTH,
    PAGE,
    Column,
    Curve,
    Headline,
    Line,
    Result,
    Series,
    Table,
)
from qface_jax.options import Option, one_of
from qface_jax.processes.share import Share

RANKS = (1, 5, 10, 20)
COMBINED = 0  # in place of a distance: all of them
_WORD = {3: "close", 2: "medium", 1: "far", COMBINED: "combined"}
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

# Rank 1 at distance 1, 2, 3 in percent. Most are of protocol A or fine-tuned on
# subjects 001-050, and papers do not always say which; mugshot crop, kernel and
# landmarks differ.
PUBLISHED = (
    ("T-C", 45.10, 85.90, 96.10, "its paper"),
    ("FAN", 62.0, 90.0, 94.0, "its paper"),
    ("RAN", 70.5, 96.0, 98.0, "its paper"),
    ("FAN, fine-tuned", 77.5, 95.0, 98.3, "its paper"),
    ("RAN, fine-tuned", 81.3, 97.8, 98.8, "its paper"),
    ("Deep-Siamese (A)", 79.70, 95.70, 98.20, "its repository, no training on SCface"),
    ("NPT", 85.69, 99.08, 99.08, "its paper"),
    ("DDL", 86.8, 98.3, 98.3, "its paper"),
    ("Khalid", 88.3, 98.3, 98.6, "its paper"),
    ("QGFace (A)", 92.31, 99.54, 100.0, "its paper"),
    ("QGFace's baseline (A)", 61.69, 97.23, 99.85, "QGFace's paper"),
)


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


class ScfaceProtocol:
    """Protocols A, B and C on one embedding of mugshots and frames by day."""

    def __init__(self, settings: EvalSettings, scface: Scface):
        """Checks that every gallery and every set of probes has an image.

        Args:
            settings: flip; option `ties`, which of `search.TIES` counts.
            scface: the set.

        Raises:
            DataError: there is no mugshot, or no frame.
        """
        self.name, self.images = scface.images.name, scface.images
        self.total = len(scface.images)
        self._settings, self._scface = settings, scface
        self._ties = settings.options["ties"]
        mugshots = scface.rows.cameras == MUGSHOT
        for word, wanted in (("mugshot", mugshots), ("frame", ~mugshots)):
            for one in SEARCHES:
                of = one.gallery if word == "mugshot" else one.probes
                if not np.any(wanted & np.isin(scface.rows.subjects, of)):
                    raise DataError(
                        f"{scface.images.folder}: got no {word} of subjects "
                        f"{of[0]:03d} to {of[-1]:03d} in the list, expected at least "
                        f"one for protocol {one.title}; is the list whole?"
                    )

    def describe(self) -> dict[str, Any]:
        """Returns facts of the set."""
        return self.images.describe()

    def evaluate(self, embed: Embedder, share: Share) -> Result:
        """Embeds every image once and follows the protocols."""
        features, unusable = embed_whole(self.images, embed, share)
        health = diagnose(features, resolution=10.0**-search.DECIMALS)
        warnings = self._warnings(unusable)
        result = Result(
            set=self.name,
            scalars={},
            best="mean_rank1",
            status=health.status,
            message=health.message,
            warnings=warnings,
            manifest=self._manifest(unusable),
        )
        if health.status == "non_finite":
            return result
        return self._scored(result, unit(features), health)

    def _scored(self, result: Result, vectors: np.ndarray, health: Health) -> Result:
        """Fills what follows from the unit vectors; those of unusable images are 0."""
        rows = self._scface.rows
        searches = {
            one.key: search_distances(vectors, rows, one, ties=self._ties)
            for one in SEARCHES
        }
        verified = [
            verify(vectors, rows, distance) for distance in (*DISTANCES, COMBINED)
        ]
        scalars = _scalars(searches, verified)
        differ = any(
            ranked.hits != ranked.hits_optimistic
            for of_search in searches.values()
            for ranked in of_search
        )
        ties = [
            "some mugshots score exactly the same; details say what the ranks are "
            "where such ties favour the right one"
        ]
        return dataclasses.replace(
            result,
            scalars=scalars,
            headlines=_headlines(scalars),
            series=[_series(one, scalars) for one in SEARCHES],
            tables=[
                _rank_table(self.name, searches, self._scface.counts),
                _verification_table(verified),
                _published_table(searches["a"]),
            ],
            curves=_curves(searches),
            warnings=[*result.warnings, *(ties if differ else [])],
            details={
                "searches": {
                    key: [dataclasses.asdict(ranked) for ranked in of_search]
                    for key, of_search in searches.items()
                },
                "verification": [dataclasses.asdict(one) for one in verified],
                "health": health.message,
            },
        )

    def _warnings(self, unusable: np.ndarray) -> list[str]:
        notes = list(self._scface.notes)
        if len(unusable):
            named = ", ".join(self._scface.rows.stems[row] for row in unusable[:5])
            more = ", ..." if len(unusable) > 5 else ""
            notes.append(
                f"{len(unusable):,} of {self.total:,} images are missing, cannot be "
                f"read or cannot be aligned ({named}{more}): as probes they count as "
                "not found, as mugshots they are never found"
            )
        return notes

    def _manifest(self, unusable: np.ndarray) -> dict[str, Any]:
        scface, settings = self._scface, self._settings
        facts = scface.images.describe()
        return {
            "name": "scface",
            "set": facts,
            "whole": scface.counts == scface.expected
            and not scface.missing
            and not len(unusable),
            "counts": dict(scface.counts),
            "expected": dict(scface.expected),
            "unusable": len(unusable),
            "aligner": facts.get("aligner"),
            "mugshots": "mugshot_frontal_cropped_all",
            "cameras": "1-5; infrared cameras 6, 7 and 8 are not used",
            "flip": settings.flip,
            "embedding": "sum of the raw features of image and mirror image"
            if settings.flip
            else "raw feature of the image",
            "score": f"cosine, float64, rounded to {search.DECIMALS} decimals",
            "ties": self._ties,
            "colour_order": "RGB",
            "protocols": {one.key: one.title for one in SEARCHES}
            | {
                "c": "C: dev 044-087, eval 088-130, threshold at the equal error of dev"
            },
        }


def open_protocol(settings: EvalSettings, name: str) -> ScfaceProtocol:
    """Opens SCface.

    Args:
        settings: `path` is the folder of the set, or holds it.
        name: of the set as `eval.sets` has it: a folder within `path`, or any word.

    Raises:
        DataError: the set cannot be read, or holds too little.
    """
    base = Path(settings.path).expanduser()
    folder = base / name if (base / name).is_dir() else base
    return ScfaceProtocol(settings, open_scface(folder))


PROTOCOL = ProtocolEntry(
    open_protocol,
    "SCface: frames of surveillance cameras at three distances against mugshots",
    {
        "ties": Option(
            "pessimistic", one_of(*search.TIES),
            "Where mugshots that score like the right one stand: before it, after it, "
            "or in the order of the list.",
        )
    },
)  # fmt: skip


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


def _scalars(
    searches: dict[str, list[Ranked]], verified: list[Verified]
) -> dict[str, float]:
    """Returns the numbers worth following.

    <search>_rank<r>_d<distance> for the searches a, b130, b80; mean_rank1, of search a
    over the distances; c_eer_<word>, c_fmr_<word> and c_fnmr_<word> of the eval group
    for far, medium, close, combined.
    """
    values: dict[str, float] = {}
    for key, of_search in searches.items():
        for ranked in of_search:
            for rank, hits in zip(RANKS, ranked.hits, strict=True):
                if ranked.probes:
                    name = f"{key}_rank{rank}_d{ranked.distance}"
                    values[name] = hits / ranked.probes
    first = [values.get(f"a_rank1_d{distance}") for distance in DISTANCES]
    if None not in first:
        values["mean_rank1"] = float(np.mean(first))
    for one in verified:
        word = _WORD[one.distance]
        for name, value in (
            ("eer", one.eval["eer"]),
            ("fmr", one.fmr),
            ("fnmr", one.fnmr),
        ):
            if value is not None:
                values[f"c_{name}_{word}"] = value
    return values


def _at(distance: int) -> str:
    return f"{METRES[distance]:.2f} m"


def _headlines(scalars: dict[str, float]) -> list[Headline]:
    headlines = [
        Headline(f"a_rank1_d{distance}", f"A, rank 1 at {_at(distance)}")
        for distance in DISTANCES
    ]
    headlines.append(Headline("c_eer_combined", "C, equal error rate, combined"))
    return [one for one in headlines if one.scalar in scalars]


def _series(one: Search, scalars: dict[str, float]) -> Series:
    shown = [d for d in DISTANCES if f"{one.key}_rank1_d{d}" in scalars]
    return Series(
        name=one.title,
        title=f"Rank 1, protocol {one.title}",
        labels=[_at(distance) for distance in shown],
        scalars=[f"{one.key}_rank1_d{distance}" for distance in shown],
        mean="mean_rank1" if one.key == "a" and "mean_rank1" in scalars else "",
        measure="rank-1 rate",
        condition="distance",
        x=[METRES[distance] for distance in shown],
        over="distance",
        xlabel="distance of the camera, m",
        note=f"Share of the frames of subjects {one.probes[0]:03d} to "
        f"{one.probes[-1]:03d} whose mugshot comes first among those of subjects "
        f"{one.gallery[0]:03d} to {one.gallery[-1]:03d}, in percent",
    )


def _rank_table(
    name: str, searches: dict[str, list[Ranked]], counts: dict[str, int]
) -> Table:
    body = []
    for one in SEARCHES:
        for ranked in searches[one.key]:
            shares: list[Any] = [None] * (len(RANKS) + 1)
            if ranked.probes:
                low, high = wilson(ranked.hits[0], ranked.probes)
                first, *others = (hits / ranked.probes for hits in ranked.hits)
                shares = [first, f"{100 * low:.1f} - {100 * high:.1f}", *others]
            body.append(
                [
                    one.title,
                    _at(ranked.distance),
                    ranked.probes,
                    ranked.gallery,
                    *shares,
                ]
            )
    return Table(
        title=f"{name}: {counts['subjects']} subjects, rank-1 and further",
        columns=[
            Column("Protocol", left=True),
            Column("Distance", left=True),
            Column("Probes", "count"),
            Column("Gallery", "count"),
            Column("Rank 1", "percent", strong=True),
            Column("95 %"),
            *(Column(f"Rank {rank}", "percent") for rank in RANKS[1:]),
        ],
        rows=body,
        notes=[
            "Share of the probes whose mugshot is within the rank, in percent; 95 %: "
            "Wilson interval of rank 1.",
            "A: all frames of cameras 1-5. B: frames of subjects 051-130 alone.",
        ],
        shown=BOTH,
    )


def _verification_table(verified: list[Verified]) -> Table:
    body = []
    for one in verified:
        pairs = one.pairs
        half = None if one.fmr is None else (one.fmr + one.fnmr) / 2
        interval = None
        if one.fnmr is not None:
            low, high = wilson(round(one.fnmr * pairs[0]), pairs[0])
            interval = f"{100 * low:.1f} - {100 * high:.1f}"
        body.append(
            [
                _WORD[one.distance], one.dev["probes"], one.eval["probes"],
                one.dev["eer"], one.eval["eer"], one.fmr, one.fnmr, interval, half,
            ]
        )  # fmt: skip
    return Table(
        title="C: verification, dev 044-087, eval 088-130",
        columns=[
            Column("Frames", left=True),
            Column("Dev probes", "count"),
            Column("Eval probes", "count"),
            Column("Dev EER", "percent"),
            Column("Eval EER", "percent", strong=True),
            Column("FMR", "percent"),
            Column("FNMR", "percent"),
            Column("95 %"),
            Column("HTER", "percent"),
        ],
        rows=body,
        notes=[
            "Frames: close 1.00 m, medium 2.60 m, far 4.20 m. FMR, FNMR (95 %: its "
            "Wilson interval) and their half sum HTER: of the eval group, at the "
            "threshold where the errors of the dev group are nearest to each other. In "
            "percent.",
        ],
        shown=BOTH,
    )


def _published_table(searched: list[Ranked]) -> Table:
    ours = [
        ranked.hits[0] / ranked.probes if ranked.probes else None for ranked in searched
    ]
    return Table(
        title="Rank 1, published",
        columns=[
            Column("Model", left=True),
            *(Column(_at(distance), "percent") for distance in DISTANCES),
            Column("Source", left=True),
        ],
        rows=[
            ["this one (A)", *ours, ""],
            *(
                [model, *(value / 100 for value in values), source]
                for model, *values, source in PUBLISHED
            ),
        ],
        notes=[
            "Protocol A, or fine-tuned on subjects 001-050: papers do not always say. "
            "Crop of the mugshots, landmarks and resampling differ between them."
        ],
        shown=PAGE,
    )


def _curves(searches: dict[str, list[Ranked]]) -> list[Curve]:
    """The share of the probes that are found within each rank, by distance."""
    return [
        Curve(
            "line",
            f"CMC, protocol {one.title}",
            [
                Line(
                    _at(ranked.distance),
                    ranked.cmc,
                    [float(rank) for rank in range(1, ranked.gallery + 1)],
                )
                for ranked in searches[one.key]
                if ranked.probes
            ],
            xlabel="rank",
            ylabel="share of the probes found",
            logarithmic="x",
        )
        for one in SEARCHES
    ]
