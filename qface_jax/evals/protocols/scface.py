"""SCface: frames of surveillance cameras at three distances against mugshots.

Three protocols that papers mix, from one embedding of the set:
A, all frames search all 130 mugshots; B, the frames of subjects 051 to 130 search 130
or 80 mugshots, so that subjects 001 to 050 may have been trained on; C, verification
whose threshold subjects 044 to 087 choose for subjects 088 to 130.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sets.scface import (
    DISTANCES,
    METRES,
    MUGSHOT,
    Scface,
    open_scface,
)
from qface_jax.errors import DataError, counted
from qface_jax.evals.protocols import identification
from qface_jax.evals.protocols.protocol import (
    Embedder,
    EvalSettings,
    ProtocolEntry,
)
from qface_jax.evals.protocols.scface_search import (
    COMBINED,
    RANKS,
    SEARCHES,
    Ranked,
    Search,
    Verified,
    at,
    cmc_curves,
    gap_table,
    gaps,
    search_distances,
    similarities,
    similarity_arrays,
    similarity_curves,
    verify,
    worst_frames,
)
from qface_jax.evals.protocols.unit_features import (
    gathered,
    unit_features,
    worst_health,
)
from qface_jax.evals.results import (
    BOTH,
    Column,
    Headline,
    Result,
    Series,
    Table,
)
from qface_jax.processes.share import Share

WORDS = {3: "close", 2: "medium", 1: "far", COMBINED: "combined"}
# Paper -> rank 1 at distance 1, 2, 3. Those of others as QGFace's Table IV names and
# quotes them.
PUBLISHED = {
    "T-C (Massoli et al., IVC 2020)": (0.4510, 0.8590, 0.9610),
    "FAN (Yin et al., ACCV 2019)": (0.62, 0.90, 0.94),
    "RAN (Fang et al., ECCV 2020)": (0.705, 0.96, 0.98),
    "FAN, fine-tuned (Yin et al., ACCV 2019)": (0.775, 0.95, 0.983),
    "RAN, fine-tuned (Fang et al., ECCV 2020)": (0.813, 0.978, 0.988),
    "Deep-Siamese, not trained on SCface, protocol A (Lai and Lam, APSIPA 2021)": (
        0.797, 0.957, 0.982,
    ),
    "NPT-Loss (Khalid et al., TPAMI 2022)": (0.8569, 0.9908, 0.9908),
    "DDL (Huang et al., ECCV 2020)": (0.868, 0.983, 0.983),
    "RIFR (Khalid et al., TBIOM 2020)": (0.883, 0.983, 0.986),
    "QGFace, protocol A (its paper)": (0.9231, 0.9954, 1.0),
    "AdaFace, protocol A (baseline of QGFace's paper)": (0.6169, 0.9723, 0.9985),
}  # fmt: skip


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
        mine = unit_features(embed, self.images, range(self.total), share)
        health = worst_health([mine], share)
        everything = gathered(mine, share)
        unusable = np.flatnonzero(everything.unusable)
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
        return self._scored(result, everything.vectors.astype(np.float64))

    def _scored(self, result: Result, vectors: np.ndarray) -> Result:
        """Fills what follows from the unit vectors; those of unusable images are 0."""
        rows = self._scface.rows
        searches = {
            one.key: search_distances(vectors, rows, one, ties=self._ties)
            for one in SEARCHES
        }
        verified = [
            verify(vectors, rows, distance) for distance in (*DISTANCES, COMBINED)
        ]
        similar = similarities(vectors, rows)
        scalars = _scalars(searches, verified) | gaps(similar)
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
                gap_table(similar),
                _interval_table(searches),
                _published_table(searches["a"]),
            ],
            curves=[*cmc_curves(searches), *similarity_curves(similar)],
            arrays=similarity_arrays(similar),
            examples=worst_frames(vectors, rows),
            warnings=[*result.warnings, *(ties if differ else [])],
            details={
                "searches": {
                    key: [dataclasses.asdict(ranked) for ranked in of_search]
                    for key, of_search in searches.items()
                },
                "verification": [dataclasses.asdict(one) for one in verified],
            },
        )

    def _warnings(self, unusable: np.ndarray) -> list[str]:
        notes = list(self._scface.notes)
        if len(unusable):
            named = ", ".join(self._scface.rows.stems[row] for row in unusable[:5])
            more = ", ..." if len(unusable) > 5 else ""
            notes.append(
                f"missing, unreadable or not to be aligned: {len(unusable):,} of "
                f"{counted(self.total, 'image')} ({named}{more}): a probe counts as "
                "not found, a mugshot is never found"
            )
        return notes

    def _manifest(self, unusable: np.ndarray) -> dict[str, Any]:
        # TensorFlow takes seconds to load; by now it has been.
        from qface_jax.data_pipelines.stream.alignment import ALIGNER

        scface, settings = self._scface, self._settings
        return {
            "name": "scface",
            "set": self.describe(),
            "whole": scface.counts == scface.expected
            and not scface.missing
            and not len(unusable),
            "counts": dict(scface.counts),
            "expected": dict(scface.expected),
            "unusable": len(unusable),
            "aligner": f"{ALIGNER}; landmarks: 4 points of all.txt",
            "mugshots": "mugshot_frontal_cropped_all",
            "cameras": "1-5; infrared cameras 6, 7 and 8 are not used",
            "flip": settings.flip,
            "embedding": identification.fusion(settings.flip),
            **identification.scoring(self._ties),
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
    {"ties": identification.TIES_OPTION},
    reads=("flip",),
)


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
        word = WORDS[one.distance]
        for name, value in (
            ("eer", one.eval["eer"]),
            ("fmr", one.fmr),
            ("fnmr", one.fnmr),
        ):
            if value is not None:
                values[f"c_{name}_{word}"] = value
    return values


def _headlines(scalars: dict[str, float]) -> list[Headline]:
    headlines = [
        Headline(f"a_rank1_d{distance}", f"A, rank 1 at {at(distance)}")
        for distance in DISTANCES
    ]
    headlines.append(Headline("c_eer_combined", "C, equal error rate, combined"))
    return [one for one in headlines if one.scalar in scalars]


def _series(one: Search, scalars: dict[str, float]) -> Series:
    shown = [d for d in DISTANCES if f"{one.key}_rank1_d{d}" in scalars]
    return Series(
        name=one.title,
        title=f"Rank 1, protocol {one.title}",
        labels=[at(distance) for distance in shown],
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
                first, *others = (hits / ranked.probes for hits in ranked.hits)
                interval = identification.interval(ranked.hits[0], ranked.probes)
                shares = [first, interval, *others]
            body.append(
                [
                    one.title,
                    at(ranked.distance),
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
            interval = identification.interval(round(one.fnmr * pairs[0]), pairs[0])
        body.append(
            [
                WORDS[one.distance], one.dev["probes"], one.eval["probes"],
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
    return identification.published_table(
        [f"rank 1 at {at(distance)}" for distance in DISTANCES],
        [one.hits[0] / one.probes if one.probes else None for one in searched],
        PUBLISHED,
        "Ours is of protocol A. Papers do not always say whether theirs is, or that of "
        "a model fine-tuned on subjects 001-050; crop of the mugshots, landmarks and "
        "resampling differ between them.",
    )


def _interval_table(searches: dict[str, list[Ranked]]) -> Table:
    return identification.rates_table(
        "found at",
        [
            (f"{one.title}: {at(ranked.distance)}, rank {rank}", hits, ranked.probes)
            for one in SEARCHES
            for ranked in searches[one.key]
            for rank, hits in zip(RANKS, ranked.hits, strict=True)
        ],
    )
