"""IJB 1:1: rates of the listed pairs of templates, and their tables and curves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qface_jax.evals.measures import error_discard, rates
from qface_jax.evals.measures.interval import wilson
from qface_jax.evals.measures.rates import RatePoint, Scores
from qface_jax.evals.results import BOTH, PAGE, Column, Curve, Line, Series, Table
from qface_jax.evals.text_table import exponent, percent

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
PUBLISHED_RULE = "nearest_vertex"
_SAMPLE = 2000  # scores of each kind in the histogram, evenly spaced in their order


@dataclasses.dataclass(frozen=True)
class Verified:
    """Rates of one variant of the templates.

    Attributes:
        variant: its name, such as N1D1F1.
        genuine: pairs of one person.
        impostor: pairs of two.
        auc: area under the ROC.
        eer: equal error rate.
        at_most: the true accept rate at each of FARS, which is not exceeded.
        published: the same by the rule of the published programs.
    """

    variant: str
    genuine: int
    impostor: int
    auc: float | None
    eer: float | None
    at_most: list[RatePoint]
    published: list[RatePoint]

    def points(self, rule: str) -> list[RatePoint]:
        """Returns the points of "at_most" or "published"."""
        return self.at_most if rule == "at_most" else self.published


def verify(scores: Scores, variant: str) -> Verified:
    """Returns the rates of the pairs' scores under one variant."""
    return Verified(
        variant,
        len(scores.genuine),
        len(scores.impostor),
        rates.auc(scores),
        rates.eer(scores),
        rates.tar_at_far(scores, FARS),
        rates.tar_at_far(scores, FARS, rule=PUBLISHED_RULE),
    )


def scalars(verified: Verified, rule: str) -> dict[str, float]:
    """Returns tar_<FAR>, auc and eer; under "at_most" tar_published_<FAR> besides."""
    values = {f"tar_{exponent(p.far)}": p.tar for p in verified.points(rule)}
    values |= {"auc": verified.auc, "eer": verified.eer}
    if rule == "at_most":
        values |= {
            f"tar_published_{exponent(p.far)}": p.tar for p in verified.published
        }
    return {name: value for name, value in values.items() if value is not None}


def series() -> Series:
    """Returns what runs are compared by: the true accept rate at each of FARS."""
    return Series(
        name="TAR",
        title="True accept rate",
        labels=[exponent(far) for far in FARS],
        scalars=[f"tar_{exponent(far)}" for far in FARS],
        measure="true accept rate",
        condition="FAR",
        x=list(FARS),
        over="FAR",
        xlabel="false accept rate",
        about="Columns: false accept rate of the listed pairs of templates.",
    )


def variants_table(title: str, every: Sequence[Verified], rule: str) -> Table:
    """Returns one row for each variant of the templates, the chosen one first."""
    columns = [Column("variant", left=True)]
    columns += [Column(f"TAR@{exponent(far)}", "percent") for far in FARS]
    columns += [Column("AUC", "percent"), Column("EER", "percent")]
    rows = [
        [one.variant, *(point.tar for point in one.points(rule)), one.auc, one.eer]
        for one in every
    ]
    few = [exponent(p.far) for p in every[0].at_most if p.reason is not None]
    notes = [
        "N1: the feature keeps its length; D1: times the detector's score; F1: plus "
        "the mirror image's feature. In percent.",
        f"Rule of FAR: {describe(rule)}.",
    ]
    if few:
        notes.append(
            f"FAR {', '.join(few)}: fewer than {rates.FEW} of {every[0].impostor:,} "
            "impostor pairs; the number says little."
        )
    return Table(columns, rows, title, notes=notes, shown=BOTH)


def describe(rule: str) -> str:
    """Returns a rule of the false accept rate in words."""
    if rule == "at_most":
        return "largest TAR of all thresholds whose FAR is at most the named one"
    return (
        "corner of the ROC, as scikit-learn's roc_curve leaves it, whose FAR is "
        "nearest to the named one; it may exceed it (published rule)"
    )


def points_table(verified: Verified) -> Table:
    """Returns the page's table of one variant: each rate with its interval."""
    columns = [
        Column("FAR", left=True),
        Column("TAR", "percent", "FAR at most", strong=True),
        Column("95 % interval", group="FAR at most"),
        Column("FAR reached", group="FAR at most"),
        Column("threshold", group="FAR at most"),
        Column("TAR", "percent", "published rule"),
        Column("95 % interval", group="published rule"),
        Column("FAR reached", group="published rule"),
    ]
    rows = []
    for ours, theirs in zip(verified.at_most, verified.published, strict=True):
        rows.append(
            [
                exponent(ours.far),
                ours.tar,
                _interval(ours, verified),
                _rate(ours.far_reached),
                None if ours.threshold is None else f"{ours.threshold:.4f}",
                theirs.tar,
                _interval(theirs, verified),
                _rate(theirs.far_reached),
            ]
        )
    return Table(
        columns,
        rows,
        f"1:1, {verified.variant}",
        notes=[
            f"{verified.genuine:,} genuine and {verified.impostor:,} impostor pairs. "
            "Intervals: Wilson, pairs taken as independent. Published rule: "
            f"{describe('published')}.",
            *(f"{point.reason}." for point in verified.at_most if point.reason),
        ],
        shown=PAGE,
    )


def _interval(point: RatePoint, verified: Verified) -> str | None:
    if point.accepted is None:
        return None
    return span(wilson(point.accepted, verified.genuine))


def span(interval: tuple[float, float]) -> str:
    """Returns an interval of a rate as text, in percent."""
    return " - ".join(map(percent, interval))


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def draw(name: str, scores: Scores, arrays: dict[str, np.ndarray]) -> None:
    """Adds the points of the ROC of a variant to the arrays: far_<name>, tar_<name>."""
    if all(map(len, scores)):
        fmr, fnmr, _ = rates.thin_det(scores)
        arrays[f"far_{name}"], arrays[f"tar_{name}"] = fmr, 1 - fnmr
        arrays[f"fnmr_{name}"] = fnmr


def sample(scores: Scores, arrays: dict[str, np.ndarray]) -> None:
    """Adds evenly spaced order statistics of each kind, score_<kind>, for a picture."""
    for kind, values in scores._asdict().items():
        picked = np.linspace(0, len(values) - 1, min(_SAMPLE, len(values))).astype(int)
        arrays[f"score_{kind}"] = values[picked].astype(np.float32)


def discard(
    scores: np.ndarray,
    genuine: np.ndarray,
    quality: np.ndarray,
    fmr: float,
    arrays: dict[str, np.ndarray],
) -> None:
    """Adds the error-versus-discard curve of the pairs: discarded, discard_fnmr.

    Args:
        scores: of all pairs, [p].
        genuine: bool [p].
        quality: of a pair, that of its worse template, [p].
        fmr: false match rate that sets the threshold, within (0, 1).
        arrays: of the result; nothing is added where there are too few pairs.
    """
    curve = error_discard.curve(-scores, genuine, quality, fmr=fmr)
    if curve is not None:
        arrays["discarded"], arrays["discard_fnmr"] = curve.thinned()


def curves(names: Sequence[str], arrays: dict[str, np.ndarray]) -> list[Curve]:
    """Returns ROC, DET and histogram of the scores, of what `draw` and `sample` added.

    Args:
        names: of the variants; the first one is that of the DET and the histogram.
        arrays: of the result.
    """
    drawn = [name for name in names if f"far_{name}" in arrays]
    rocs = [Line(name, f"tar_{name}", f"far_{name}") for name in drawn]
    dets = [Line(name, f"fnmr_{name}", f"far_{name}") for name in drawn[:1]]
    kinds = [
        Line(f"{kind} pairs", f"score_{kind}")
        for kind in Scores._fields
        if len(arrays[f"score_{kind}"])
    ]
    discards = [Line("feature length", "discard_fnmr", "discarded")]
    title = "Error versus discard, by the length of the worse template"
    return [
        *([Curve("roc", "ROC of pairs of templates", rocs)] if rocs else []),
        *([Curve("det", "DET of pairs of templates", dets)] if dets else []),
        *([Curve("discard", title, discards)] if "discarded" in arrays else []),
        Curve(
            "histogram",
            f"Scores of the pairs, {names[0]}",
            kinds,
            xlabel="cosine",
            ylabel="pairs, %",
        ),
    ]


def details(verified: Verified) -> dict[str, Any]:
    """Returns the numbers of one variant, fit for JSON."""

    def plain(points: Sequence[RatePoint]) -> list[dict[str, Any]]:
        return [point._asdict() for point in points]

    return {
        field.name: getattr(verified, field.name)
        for field in dataclasses.fields(verified)
    } | {"at_most": plain(verified.at_most), "published": plain(verified.published)}
