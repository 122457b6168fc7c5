"""What QMUL-SurvFace's two halves make of scores and distances."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from qface_jax.evals.measures import pairs_on_grid, rates, roc
from qface_jax.evals.measures.open_set import OpenSetPoint, area, curve, tpir_at_fpir
from qface_jax.evals.protocols.identification import (
    finite,
    published_table,
    rates_table,
    score_histogram,
)
from qface_jax.evals.results import Column, Curve, Example, Headline, Line, Table

FPIRS = (0.3, 0.2, 0.1, 0.01)
FARS = (0.3, 0.1, 0.01, 0.001)
RANKS = (1, 5, 10, 20)
WITHIN = (20, 5, 1)  # ranks of the open-set rates
# Model and source -> TPIR20 at FPIRS.
PUBLISHED_TPIR = {"CentreFace (SurvFace paper)": (None, None, 0.132, None)}
# Model and source -> TAR at FARS, AUC.
PUBLISHED_TAR = {
    "Lai and Lam (Deep-Siamese network)": (0.7509, 0.5274, 0.2141, 0.1102, 0.8003),
    "the same, its weights run again": (0.7756, 0.5637, 0.2871, 0.1188, 0.8217),
}

_CURVE_POINTS = 400


@dataclasses.dataclass(frozen=True)
class Section:
    """What one half of the benchmark adds to the result, by the fields of `Result`."""

    scalars: dict[str, float] = dataclasses.field(default_factory=dict)
    headlines: list[Headline] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    curves: list[Curve] = dataclasses.field(default_factory=list)
    examples: list[Example] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Answers(NamedTuple):
    """What the probes found on the watch list.

    Attributes:
        mate: of each mated probe the score of its mate, float64 [m]; -inf: a miss.
        rank: of that mate, int64 [m].
        stranger: best score of each probe of a stranger, float64 [n].
    """

    mate: np.ndarray
    rank: np.ndarray
    stranger: np.ndarray


class PairDistances(NamedTuple):
    """Euclidean distances of unit features, in the order of the lists.

    Attributes:
        same: of pairs of one person, [a].
        different: of pairs of two, [b].
    """

    same: np.ndarray
    different: np.ndarray


def identified(answers: Answers, people: int) -> Section:
    """Returns the open-set and the closed-set rates.

    Args:
        answers: of all probes.
        people: on the watch list.
    """
    points = {rank: tpir_at_fpir(*answers, FPIRS, rank=rank) for rank in WITHIN}
    arrays = {
        "mate_score": finite(answers.mate),
        "stranger_score": finite(answers.stranger),
    }
    scalars = {
        f"tpir{rank}_fpir_{_percent(point.fpir)}": point.tpir
        for rank, of_rank in points.items()
        for point in of_rank
        if point.tpir is not None
    }
    for rank in WITHIN:
        fpir, tpir = curve(*answers, rank=rank)
        if (under := area(fpir, tpir)) is not None:
            scalars[f"auc_tpir{rank}"] = under
        arrays[f"fpir_{rank}"], arrays[f"tpir_{rank}"] = _thinned(fpir, tpir)
    for rank in RANKS:
        scalars[f"rank_{rank}"] = float(np.mean(answers.rank <= rank))
    return Section(
        scalars=scalars,
        headlines=[
            Headline("tpir20_fpir_10", "TPIR20 at FPIR 10 %"),
            Headline("tpir1_fpir_10", "TPIR1 at FPIR 10 %"),
            Headline("rank_1", "found at rank 1, without strangers"),
        ][0 if "tpir20_fpir_10" in scalars else 2 :],
        tables=_identification_tables(scalars, points, answers, people),
        curves=_identification_curves(arrays),
        warnings=sorted({p.reason for p in points[WITHIN[0]] if p.reason}),
        details={
            "identification": {
                f"tpir{rank}": [_for_json(point) for point in of_rank]
                for rank, of_rank in points.items()
            }
        },
        arrays=arrays,
    )


def verified(pairs: PairDistances) -> Section:
    """Returns the rates of the pairs, exact and on the grid of the official program."""
    same, different = pairs
    scores = rates.Scores(np.sort(-same), np.sort(-different))
    points = rates.tar_at_far(scores, FARS)
    scalars = {f"tar_far_{_percent(point.far)}": point.tar for point in points}
    scalars |= {"auc": rates.auc(scores), "eer": rates.eer(scores)}
    warnings = [point.reason for point in points if point.reason]
    accuracy = []
    if min(len(same), len(different)) >= pairs_on_grid.FOLDS:
        accuracy = pairs_on_grid.fold_accuracy(same, different)[0].tolist()
        scalars["accuracy"] = float(np.mean(accuracy))
    else:
        warnings.append("no accuracy: ten folds need ten pairs of each kind")
    on_grid = pairs_on_grid.tar_on_grid(same, different, FARS)
    far, tar = roc.roc(
        np.concatenate(pairs), np.arange(sum(map(len, pairs))) < len(same)
    )
    return Section(
        scalars=scalars,
        headlines=[
            Headline("auc", "AUC of the pairs"),
            *([Headline("accuracy", "accuracy of the pairs")] if accuracy else []),
        ],
        tables=_verification_tables(scalars, points, on_grid, accuracy, pairs),
        curves=[Curve("roc", "Pairs", [Line("pairs", "pairs_tar", "pairs_far")])],
        warnings=warnings,
        details={
            "verification": {
                "tar_at_most": [point._asdict() for point in points],
                "tar_on_grid": on_grid,
                "fold_accuracies": accuracy,
            }
        },
        arrays={"pairs_far": far, "pairs_tar": tar},
    )


def _percent(rate: float) -> str:
    """Returns 0.001 as "0.1"."""
    return f"{100 * rate:g}"


def _identification_tables(
    scalars: dict[str, float],
    points: dict[int, list[OpenSetPoint]],
    answers: Answers,
    people: int,
) -> list[Table]:
    mated, columns = len(answers.mate), [f"FPIR {_percent(f)} %" for f in FPIRS]
    open_set = Table(
        title=f"identification: {people:,} people, {mated:,} mated and "
        f"{len(answers.stranger):,} unmated probes",
        columns=[
            Column("", left=True),
            *(Column(title, "percent") for title in columns),
            Column("AUC", "percent"),
        ],
        rows=[
            [f"TPIR{rank}", *(p.tpir for p in of_rank), scalars.get(f"auc_tpir{rank}")]
            for rank, of_rank in points.items()
        ],
        notes=["In percent; FPIR at most the named one, exact thresholds."],
    )
    closed = Table(
        columns=[Column("rank", left=True), Column("found", "percent")],
        rows=[[str(rank), scalars[f"rank_{rank}"]] for rank in RANKS],
        notes=["Mated probes on the watch list, in percent, whatever the score."],
    )
    intervals = [
        (f"TPIR{rank} at FPIR {_percent(point.fpir)} %", point.identified, mated)
        for rank, of_rank in points.items()
        for point in of_rank
        if point.identified is not None
    ]
    intervals += [(f"rank {k}", int(np.sum(answers.rank <= k)), mated) for k in RANKS]
    published = published_table(
        columns,
        [point.tpir for point in points[20]],
        PUBLISHED_TPIR,
        "TPIR20. Programs that walk a grid of 1,000 thresholds differ by up to 1.5.",
    )
    return [open_set, closed, rates_table("identification", intervals), published]


def _identification_curves(arrays: dict[str, np.ndarray]) -> list[Curve]:
    histogram = score_histogram(
        {"mate": "mate_score", "strangers' best": "stranger_score"},
        "Best scores of the probes",
    )
    if not len(arrays["fpir_1"]):
        return [histogram]
    lines = [
        Line(f"within rank {rank}", f"tpir_{rank}", f"fpir_{rank}") for rank in WITHIN
    ]
    title = "Identification over false alarms"
    return [
        Curve("line", title, lines, "FPIR", "TPIR", logarithmic="x"),
        histogram,
    ]


def _verification_tables(
    scalars: dict[str, float],
    points: list[rates.RatePoint],
    on_grid: list[float],
    accuracy: list[float],
    pairs: PairDistances,
) -> list[Table]:
    same, different = map(len, pairs)
    columns = [f"FAR {_percent(far)} %" for far in FARS]
    mean = [scalars["accuracy"], float(np.std(accuracy))] if accuracy else None
    table = Table(
        title=f"verification: {same:,} pairs of one person, {different:,} of two",
        columns=[
            Column("TAR", left=True),
            *(Column(title, "percent") for title in columns),
            Column("AUC", "percent"),
            Column("EER", "percent"),
            Column("accuracy", "percents"),
        ],
        rows=[
            ["at most", *(p.tar for p in points), scalars["auc"], scalars["eer"], mean],
            ["on the grid", *on_grid, "", "", ""],
        ],
        notes=[
            "In percent. On the grid: straight lines between thresholds, as the "
            "official evaluation is known to do; accuracy ± over ten folds."
        ],
    )
    intervals = [
        (f"TAR at {title}", point.accepted, same)
        for title, point in zip(columns, points, strict=True)
    ]
    published = published_table(
        [*columns, "AUC"],
        [*on_grid, scalars["auc"]],
        PUBLISHED_TAR,
        "This model: on the grid. Lai and Lam: bicubic to the whole picture, one "
        "image, no flip; their TAR is that of the first point above the FAR.",
    )
    return [table, rates_table("verification", intervals), published]


def _thinned(fpir: np.ndarray, tpir: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns at most some points of a curve for a logarithmic axis: FPIR > 0."""
    seen = np.flatnonzero(fpir > 0)
    if not len(seen):
        return np.empty(0), np.empty(0)
    wanted = np.geomspace(fpir[seen[0]], 1, _CURVE_POINTS)
    last = np.unique(np.searchsorted(fpir, wanted * (1 + 1e-12), side="right") - 1)
    return fpir[last], tpir[last]


def _for_json(point: OpenSetPoint) -> dict[str, Any]:
    """Returns a point; a threshold that lets in everything is None."""
    fields = point._asdict()
    if point.threshold is not None and not np.isfinite(point.threshold):
        fields["threshold"] = None
    return fields
