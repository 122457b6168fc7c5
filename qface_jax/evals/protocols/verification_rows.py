"""What a result of verification shows: one row a resolution, its tables and curves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qface_jax.evals.lost_pairs import with_lost_wrong
from qface_jax.evals.measures.roc import FARS, TarAtFar, equal_error_rate, roc
from qface_jax.evals.measures.verification import Score
from qface_jax.evals.results import (
    BOTH,
    PAGE,
    TERMINAL,
    Column,
    Curve,
    Headline,
    Line,
    Result,
    Series,
    Table,
)
from qface_jax.evals.text_table import exponent

# What is degraded -> its title.
KINDS = {"cross": "Cross-resolution", "same": "Same resolution"}

_SEVERITY = ("ok", "collapsed", "non_finite")


@dataclasses.dataclass(frozen=True)
class Row:
    """One resolution.

    Attributes:
        side: of the degraded image, px.
        status: "ok", "collapsed" or "non_finite", of the embeddings at this side.
        message: what is wrong with them; empty when ok.
        cross: second image of each pair degraded; None where nothing can be compared.
        same: both images degraded; None likewise.
        norms: mean, std, min, max of the feature norms at this side; None likewise.
    """

    side: int
    status: str
    message: str
    cross: Score | None
    same: Score | None
    norms: dict[str, float] | None

    def score(self, kind: str) -> Score | None:
        """Returns the score of a key of `KINDS`."""
        return self.cross if kind == "cross" else self.same


def rows_of(result: Result) -> list[Row]:
    """Returns what a result of this protocol says of each resolution."""

    def score(fields: dict[str, Any] | None) -> Score | None:
        if fields is None:
            return None
        points = [TarAtFar(**point) for point in fields["tar_at_far"]]
        return Score(**fields | {"tar_at_far": points})

    return [
        Row(**row | {kind: score(row[kind]) for kind in KINDS})
        for row in result.details["rows"]
    ]


def overall(rows: list[Row]) -> tuple[str, str]:
    """Returns the worst status and what is wrong where."""
    status = max((row.status for row in rows), key=_SEVERITY.index)
    bad = [f"at {row.side} px: {row.message}" for row in rows if row.status != "ok"]
    return status, "; ".join(bad)


def lost_wrong(
    rows: list[Row], lost: np.ndarray
) -> dict[str, list[list[float] | None]]:
    """Returns accuracy and its deviation by kind and row, lost pairs being wrong.

    Args:
        rows: of the pairs that are left.
        lost: bool [p].

    Returns:
        {} where no pair is lost.
    """
    if not lost.any():
        return {}
    return {
        kind: [
            score and list(with_lost_wrong(score, lost))
            for score in (row.score(kind) for row in rows)
        ]
        for kind in KINDS
    }


def scalars(
    rows: list[Row],
    quality: dict[str, Any] | None,
    wrong: dict[str, list[list[float] | None]],
) -> dict[str, float]:
    """Returns the numbers worth following, by name.

    mean_cross, mean_same, and per side: cross_<side>, same_<side>, auc_<side> and
    eer_<side> (cross) and norm_mean_<side>; of each quality score rank_<score>, its
    rank correlation with the resolution, and discard_<score>, the area below its
    error-versus-discard curve.
    Where pairs are lost, mean_cross_lost_wrong and so on count them as wrong.
    """
    values = {f"mean_{kind}": _mean([row.score(kind) for row in rows])
              for kind in KINDS}  # fmt: skip
    for row in rows:
        values[f"cross_{row.side}"] = row.cross and row.cross.accuracy
        values[f"same_{row.side}"] = row.same and row.same.accuracy
        values[f"auc_{row.side}"] = row.cross and row.cross.auc
        values[f"eer_{row.side}"] = row.cross and row.cross.eer
        values[f"norm_mean_{row.side}"] = row.norms and row.norms["mean"]
    for kind, accuracies in wrong.items():
        for row, accuracy in zip(rows, accuracies, strict=True):
            values[f"{kind}_{row.side}_lost_wrong"] = accuracy and accuracy[0]
        if None not in accuracies:
            mean = float(np.mean([accuracy for accuracy, _ in accuracies]))
            values[f"mean_{kind}_lost_wrong"] = mean
    for name, facts in (quality or {}).get("scores", {}).items():
        values[f"rank_{name}"] = facts["rank_correlation"]
        values[f"discard_{name}"] = facts["area"]
    return {name: value for name, value in values.items() if value is not None}


def _mean(scores: list[Score | None]) -> float | None:
    if any(score is None for score in scores):
        return None
    return float(np.mean([score.accuracy for score in scores]))


def headlines(rows: list[Row], scalars: dict[str, float]) -> list[Headline]:
    """Returns the largest and the smallest side, and the means."""
    largest, smallest = rows[0].side, rows[-1].side
    headlines = [Headline(f"cross_{largest}", f"at {largest} px")]
    if len(rows) > 1:
        label = f"{largest} against {smallest} px"
        headlines.append(Headline(f"cross_{smallest}", label))
    means = [Headline(f"mean_{k}", f"mean, {t.lower()}") for k, t in KINDS.items()]
    name = "mean_cross_lost_wrong"
    lost = [Headline(name, "mean, cross-resolution, lost pairs wrong")]
    return [*headlines, *means, *(lost if name in scalars else [])]


def series(rows: list[Row], manifest: dict[str, Any]) -> list[Series]:
    """Returns what runs are compared by: the accuracy over the sides, by kind."""
    share = manifest["same"] / manifest["pairs"]
    return [
        Series(
            name=kind,
            title=title,
            labels=[f"{row.side} px" for row in rows],
            scalars=[f"{kind}_{row.side}" for row in rows],
            spreads=[getattr(row.score(kind), "std", None) for row in rows],
            mean=f"mean_{kind}",
            condition="side",
            x=[row.side for row in rows],
            over="resolution",
            xlabel="side of the degraded image, px",
            chance=max(share, 1 - share),
            note="Accuracy in percent ± standard deviation over the folds",
            about="Columns in px: cross-resolution, the second picture of each pair "
            "degraded to that side. mean cross, mean same (both degraded): over all "
            "sides.",
        )
        for kind, title in KINDS.items()
    ]


def _accuracy(score: Score | None) -> list[float] | None:
    return score and [score.accuracy, score.std]


def printed_table(
    name: str, manifest: dict[str, Any], rows: list[Row], scalars: dict[str, float]
) -> Table:
    """Accuracy, TAR at FAR and AUC over resolution; the latter cross-resolution."""
    points = next((row.cross.tar_at_far for row in rows if row.cross is not None), [])
    tars = [Column(f"TAR@{exponent(point.far)}", "percent") for point in points]
    reasons: dict[str, list[str]] = {}
    for point in points:
        if point.reason is not None:
            reasons.setdefault(point.reason, []).append(exponent(point.far))
    lost = f", {manifest['lost_pairs']:,} lost" if manifest["lost_pairs"] else ""
    return Table(
        title=f"{name}: {manifest['pairs']:,} pairs ({manifest['same']:,} same, "
        f"{manifest['different']:,} different{lost}), {manifest['folds']} folds, "
        f"{manifest['metric']}, {'with' if manifest['flip'] else 'without'} flip",
        columns=[
            Column("side"),
            *(Column(title.lower(), "percents") for title in KINDS.values()),
            *tars,
            Column("AUC", "percent"),
        ],
        rows=[
            [
                f"{row.side} px",
                *(_accuracy(row.score(kind)) for kind in KINDS),
                *_rates(row.cross, range(len(tars))),
            ]
            for row in rows
        ],
        footer=[
            "mean",
            *([scalars.get(f"mean_{kind}")] for kind in KINDS),
            *[""] * (len(tars) + 1),
        ],
        notes=[
            "TAR and AUC: cross-resolution. All in percent; ± over the folds.",
            *(f"No TAR at FAR {', '.join(f)}: {why}." for why, f in reasons.items()),
        ],
        shown=TERMINAL,
    )


def lost_tables(
    rows: list[Row],
    wrong: dict[str, list[list[float] | None]],
    scalars: dict[str, float],
) -> list[Table]:
    """Returns the accuracies with lost pairs counted as wrong; [] without lost ones."""
    if not wrong:
        return []
    return [
        Table(
            title="Lost pairs counted as wrong",
            columns=[
                Column("side"),
                *(Column(title.lower(), "percents") for title in KINDS.values()),
            ],
            rows=[
                [f"{row.side} px", *(wrong[kind][i] for kind in KINDS)]
                for i, row in enumerate(rows)
            ],
            footer=[
                "mean",
                *([scalars.get(f"mean_{kind}_lost_wrong")] for kind in KINDS),
            ],
            notes=["Of all pairs, in percent; ± over the folds."],
            shown=BOTH,
        )
    ]


def _rates(score: Score | None, points: Sequence[int]) -> list[float | None]:
    """TAR at the points of FARS that are shown, and the area under the ROC."""
    if score is None:
        return [None] * (len(points) + 1)
    return [*(score.tar_at_far[i].tar for i in points), score.auc]


def page_table(rows: list[Row], scalars: dict[str, float]) -> Table:
    """The same of both kinds of pairs; only FARs that any row has a number for."""
    scores = [row.score(kind) for row in rows for kind in KINDS]
    points = [point for score in scores if score for point in score.tar_at_far]
    told = {point.far for point in points if point.tar is not None}
    shown = [i for i, far in enumerate(FARS) if far in told]
    columns, footer = [Column("Side", left=True)], ["mean"]
    groups = {
        "cross": "Cross-resolution: second image degraded",
        "same": "Same resolution: both images degraded",
    }
    for kind, group in groups.items():
        columns += [
            Column("Accuracy", "percents", group, strong=True),
            Column("AUC", "percent", group),
            Column("EER", "percent", group),
            *(Column(f"TAR {exponent(FARS[i])}", "percent", group) for i in shown),
        ]
        footer += [[scalars.get(f"mean_{kind}")], *[""] * (2 + len(shown))]
    body = []
    for row in rows:
        wrong = "" if row.status == "ok" else f" ({row.status.replace('_', '-')})"
        cells: list[Any] = [f"{row.side} px{wrong}"]
        for kind in KINDS:
            *tars, area = _rates(row.score(kind), shown)
            eer = getattr(row.score(kind), "eer", None)
            cells += [_accuracy(row.score(kind)), area, eer, *tars]
        body.append([*cells, row.norms and row.norms["mean"]])
    reasons = sorted(
        {
            f"{exponent(point.far)}: {point.reason}"
            for row in rows
            if row.cross is not None
            for point in row.cross.tar_at_far
            if point.reason is not None
        }
    )
    note = (
        "In percent; accuracy ± standard deviation over the folds; TAR at the false "
        "accept rate named; norm: mean L2 norm of the features."
    )
    return Table(
        columns=[*columns, Column("Norm", "number")],
        rows=body,
        footer=[*footer, ""],
        notes=[note, *([f"No TAR at FAR {'; '.join(reasons)}."] if reasons else [])],
        shown=PAGE,
    )


def eer_text(eer: float | None) -> str:
    """Returns what stands beside a ROC in its legend; "" without an EER."""
    return "" if eer is None else f"EER {100 * eer:.2f} %"


def rocs(arrays: dict[str, np.ndarray], sides: Sequence[int]) -> list[Curve]:
    """The ROC of each kind, a line for each side; their points become arrays."""
    curves = []
    for kind, title in KINDS.items():
        lines = []
        for side in sides:
            if f"{kind}_{side}" not in arrays:
                continue
            pairs = arrays[f"{kind}_{side}"], arrays["issame"]
            far, tar = roc(*pairs)
            if len(far):
                x, y = f"far_{kind}_{side}", f"tar_{kind}_{side}"
                arrays[x], arrays[y] = far, tar
                note = eer_text(equal_error_rate(*pairs))
                lines.append(Line(f"{side} px", y, x, note))
        if lines:
            curves.append(Curve("roc", f"ROC, {title.lower()}", lines))
    return curves
