"""Error-versus-discard curves: what is gained by leaving out the worst pictures.

All pairs are compared once, and a threshold is set at a false match rate. Then the
pairs of one identity are left out from the lowest quality up, the quality of a pair
being the lower one of its two pictures. A score that knows which pictures cannot be
recognised takes the false non-matches out first, so its curve falls fast and the area
below it is small.

References:
    Grother, Tabassi. Performance of Biometric Quality Measures. TPAMI 2007.
"""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.evals.measures.quality_scores import (
    NORM,
    array_name,
    correlation_with_sides,
    title,
    wrong_signs,
)
from qface_jax.evals.results import PAGE, TERMINAL, Column, Line, Table
from qface_jax.evals.results import Curve as Picture
from qface_jax.evals.text_table import percent
from qface_jax.storage.atomic_file import replace_file
from qface_jax.tables import QUALITY_SCORES

MOST = 0.95  # share that is left out at most; the rest is too few pairs to count
FMR = 0.01  # at which curves start where nothing else is said
EARLY = 0.2  # up to here is what a user would leave out
_POINTS = 96  # of a curve in the file


@dataclasses.dataclass(frozen=True)
class Curve:
    """False non-match rate over the share that is left out.

    Attributes:
        discarded: Shares, ascending from 0, [k].
        fnmr: Of the pairs that are kept, [k].
        threshold: Distance below which a pair is a match.
        fmr: False match rate that the threshold has on all pairs.
    """

    discarded: np.ndarray
    fnmr: np.ndarray
    threshold: float
    fmr: float

    def area(self, up_to: float = MOST) -> float:
        """Returns the mean false non-match rate over the shares 0 .. `up_to`.

        Exact: the curve is a step function.
        """
        ends = np.minimum(np.append(self.discarded[1:], 1.0), up_to)
        widths = np.maximum(ends - np.minimum(self.discarded, up_to), 0.0)
        return float(np.sum(widths * self.fnmr) / up_to)

    def thinned(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns shares at even steps up to MOST and the rates there."""
        shares = np.linspace(0.0, MOST, _POINTS)
        return shares, self.at(shares)

    def at(self, shares: np.ndarray) -> np.ndarray:
        """Returns the false non-match rate after these shares are left out."""
        rows = np.searchsorted(self.discarded, np.asarray(shares) + 1e-9, "right") - 1
        return self.fnmr[np.maximum(rows, 0)]


def threshold_at(different: np.ndarray, fmr: float) -> float | None:
    """Returns the largest distance that lets at most this share of others pass.

    Args:
        different: Distances of pairs of two identities, [n].
        fmr: Within (0, 1).

    Returns:
        A pair matches where its distance is below; None where n is too small for fmr.
    """
    allowed = int(fmr * len(different) + 1e-9)
    if allowed < 1:
        return None
    return float(np.sort(different)[allowed]) if allowed < len(different) else np.inf


def curve(
    distances: np.ndarray, issame: np.ndarray, quality: np.ndarray, *, fmr: float
) -> Curve | None:
    """Returns the error-versus-discard curve of one score.

    Pairs of equal quality are left out together, in equal parts of their errors: what
    their order would happen to be does not count.

    Args:
        distances: Of all pairs, [n]; smaller is more alike.
        issame: Whether a pair is of one identity, bool [n].
        quality: Of a pair, [n]; larger is better.
        fmr: False match rate that sets the threshold, within (0, 1).

    Returns:
        The curve, a point for each pair of one identity; None where there are none, or
        too few others for this rate.
    """
    issame = np.asarray(issame, bool)
    threshold = threshold_at(distances[~issame], fmr)
    if threshold is None or not issame.any():
        return None
    errors = (distances[issame] >= threshold).astype(np.float64)
    quality = np.asarray(quality, np.float64)[issame]
    order = np.argsort(quality, kind="stable")
    errors, quality = errors[order], quality[order]
    _, group = np.unique(quality, return_inverse=True)
    errors = (np.bincount(group, errors) / np.bincount(group))[group]
    count = len(errors)
    left = count - np.arange(count)
    kept = np.cumsum(errors[::-1])[::-1]
    return Curve(
        discarded=np.arange(count) / count,
        fnmr=kept / left,
        threshold=threshold,
        fmr=float(np.mean(distances[~issame] < threshold)),
    )


def mixed_pairs(
    arrays: dict[str, np.ndarray], sides: Sequence[int], score: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Returns distances, issame and quality of the cross-resolution pairs of all sides.

    Args:
        arrays: Of a result: cross_<side>, issame, and the score's.
        sides: In px, the largest among them, at which every first picture stands.
        score: Name of a score.

    Returns:
        Each [pairs x sides]; None where one of them is missing or not finite.
    """
    name, full = array_name(score), max(sides)
    needed = [f"{kind}_{side}" for kind in ("cross", name) for side in sides]
    if "issame" not in arrays or any(key not in arrays for key in needed):
        return None
    first = arrays[f"{name}_{full}"][0::2]
    distances = np.concatenate([arrays[f"cross_{side}"] for side in sides])
    quality = np.concatenate(
        [np.minimum(first, arrays[f"{name}_{side}"][1::2]) for side in sides]
    )
    if not (np.isfinite(distances).all() and np.isfinite(quality).all()):
        return None
    return distances, np.tile(arrays["issame"].astype(bool), len(sides)), quality


def sides_of(arrays: dict[str, np.ndarray]) -> list[int]:
    """Returns the sides in px whose feature norms a result has, largest first."""
    name = f"{array_name(NORM)}_"
    texts = [key.removeprefix(name) for key in arrays if key.startswith(name)]
    return sorted((int(text) for text in texts if text.isdecimal()), reverse=True)


def scores_of(arrays: dict[str, np.ndarray], sides: Sequence[int]) -> list[str]:
    """Returns the names of the scores that a result has at every side.

    A result can be judged, whatever its protocol, that has the arrays `issame`,
    `cross_<side>`, and `<array_name>_<side>` of each score.
    """
    if not sides:
        return []
    suffix = f"_{max(sides)}"
    kinds = [key.removesuffix(suffix) for key in arrays if key.endswith(suffix)]
    names = [NORM if kind == array_name(NORM) else kind for kind in kinds]
    return [
        name
        for name in names
        if name in QUALITY_SCORES
        and all(f"{array_name(name)}_{side}" in arrays for side in sides)
    ]


def curves(
    arrays: dict[str, np.ndarray], sides: Sequence[int], *, fmr: float
) -> dict[str, Curve]:
    """Returns the curve of each score of a result that has one, by name.

    Args:
        arrays: Of a result.
        sides: In px.
        fmr: False match rate at which they start.
    """
    by_score = {}
    for name in scores_of(arrays, sides):
        pairs = mixed_pairs(arrays, sides, name)
        drawn = None if pairs is None else curve(*pairs, fmr=fmr)
        if drawn is not None:
            by_score[name] = drawn
    return by_score


def write_csv(path: Path, drawn: Sequence[tuple[str, str, Curve]]) -> None:
    """Writes curves as lines of set, score, share left out and rate; aside first.

    Args:
        path: CSV to write.
        drawn: Name of the set, name of the score, and the curve.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("set", "score", "left_out", "fnmr"))
    for name, score, drawn_curve in drawn:
        for share, rate in zip(drawn_curve.discarded, drawn_curve.fnmr, strict=True):
            writer.writerow((name, score, f"{share:.6f}", f"{rate:.6f}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.getvalue().encode())


def judge(
    arrays: dict[str, np.ndarray], sides: Sequence[int], *, fmr: float
) -> dict[str, Any] | None:
    """Returns how good each score of a result is, fit for JSON.

    Args:
        arrays: Of a result.
        sides: In px.
        fmr: False match rate at which the curves start.

    Returns:
        {"fmr", "scores": {name: {"rank_correlation", "area", "early_area"}}}; a number
        that cannot be had is None. None where no score is there.
    """
    judged, drawn_curves = {}, curves(arrays, sides, fmr=fmr)
    for name in scores_of(arrays, sides):
        by_side = {side: arrays[f"{array_name(name)}_{side}"] for side in sides}
        drawn = drawn_curves.get(name)
        judged[name] = {
            "rank_correlation": correlation_with_sides(by_side),
            "area": None if drawn is None else drawn.area(),
            "early_area": None if drawn is None else drawn.area(EARLY),
        }
    return {"fmr": fmr, "scores": judged} if judged else None


def correlations(quality: dict[str, Any]) -> dict[str, float | None]:
    """Returns the rank correlation of each score, from what `judge` returned."""
    return {
        name: facts["rank_correlation"] for name, facts in quality["scores"].items()
    }


def warnings(quality: dict[str, Any]) -> list[str]:
    """Returns a sentence for each score that ranks pictures the wrong way round."""
    return wrong_signs(correlations(quality))


def table(quality: dict[str, Any]) -> Table:
    """Returns the scores as a printed table, the smallest area marked.

    Args:
        quality: from `judge`.
    """
    areas = [facts["area"] for facts in quality["scores"].values()]
    least = min((area for area in areas if area is not None), default=None)
    alone = least is not None and areas.count(least) == 1
    rows = [
        [
            title(name),
            facts["rank_correlation"],
            percent(facts["area"])
            + (" *" if alone and facts["area"] == least else "  "),
            facts["early_area"],
        ]
        for name, facts in quality["scores"].items()
    ]
    columns = [
        Column("score", left=True),
        Column("rank correlation", "signed"),
        Column("area"),
        Column(f"area to {EARLY:.0%}", "percent"),
    ]
    note = (
        f"Rank correlation: with the true resolution. Area: mean false non-match rate, "
        f"in percent, while up to {MOST:.0%} of the pairs are left out, the lowest "
        f"scores first; threshold at a false match rate of {quality['fmr']:g}, "
        "cross-resolution pairs of all resolutions together; * the smallest."
    )
    return Table(columns, rows, notes=[note], shown=TERMINAL, ruled=False)


def page_table(quality: dict[str, Any]) -> Table:
    """Returns the scores as a table of the page.

    Args:
        quality: from `judge`.
    """
    columns = [
        Column("Quality score", left=True),
        Column("Rank correlation with resolution", "signed", strong=True),
        Column("Area of errors, %", "percent"),
        Column("Area to 20 % left out, %", "percent"),
    ]
    rows = [
        [title(name), facts["rank_correlation"], facts["area"], facts["early_area"]]
        for name, facts in quality["scores"].items()
    ]
    note = (
        "Area: mean false non-match rate while pairs are left out from the lowest "
        "score up, cross-resolution pairs of all resolutions together; smaller is "
        "better."
    )
    return Table(columns, rows, notes=[note], shown=PAGE)


def pictures(
    arrays: dict[str, np.ndarray], sides: Sequence[int], *, fmr: float
) -> list[Picture]:
    """Returns the distribution of each score, and the discard curves of all.

    Args:
        arrays: of a result.
        sides: in px.
        fmr: false match rate at which the curves start.
    """
    drawn = []
    for name in scores_of(arrays, sides):
        lines = [Line(f"{side} px", f"{array_name(name)}_{side}") for side in sides]
        text = f"{title(name)}, by resolution"
        drawn.append(Picture("histogram", text, lines, title(name), "images, %"))
    lines = []
    for name, drawn_curve in curves(arrays, sides, fmr=fmr).items():
        x, y = drawn_curve.thinned()
        label = f"{title(name)} (area {percent(drawn_curve.area())})"
        lines.append(Line(label, y.tolist(), x.tolist()))
    if lines:
        drawn.append(Picture("discard", f"Error versus discard, FMR {fmr:g}", lines))
    return drawn
