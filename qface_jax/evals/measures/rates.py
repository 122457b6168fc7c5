"""Error rates of genuine and impostor scores, all exact: TAR at FAR, AUC, DET, EER.

A pair is accepted when its score is at least the threshold. Scores are sorted once and
looked up: of fifteen million pairs nothing is held but themselves.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# How the true accept rate (TAR) follows from a wanted false accept rate (FAR):
# at_most         largest TAR of all thresholds whose FAR is at most the wanted one.
# nearest_vertex  the corner of the ROC, as scikit-learn's roc_curve leaves it (points
#                 between two equal steps are dropped), whose FAR is nearest; of equally
#                 near ones the larger. Published with IJB; may exceed the wanted FAR.
# nearest         the same over all points of the ROC.
# linear          on the straight line between the largest TARs of the FARs beside it.
RULES = ("at_most", "nearest_vertex", "nearest", "linear")
FEW = 10  # impostor pairs below which a wanted FAR can hardly be told from 0

_WINDOW = 1024  # impostor pairs around a wanted FAR that are looked at first


class Scores(NamedTuple):
    """Scores of pairs, each kind ascending.

    Attributes:
        genuine: of pairs of one identity, float64 [m].
        impostor: of pairs of two identities, float64 [n].
    """

    genuine: np.ndarray
    impostor: np.ndarray


class RatePoint(NamedTuple):
    """One operating point.

    Attributes:
        far: the wanted false accept rate.
        tar: the true accept rate; None where one kind of pair is missing.
        threshold: accepted is score >= threshold; inf where nothing is; None as `tar`,
            and under the rule "linear", whose point lies between two thresholds.
        far_reached: false accept rate there; None as `tar`.
        accepted: genuine pairs that are accepted; None as `threshold`.
        reason: why there is no number, or why it says little; None without.
    """

    far: float
    tar: float | None
    threshold: float | None
    far_reached: float | None
    accepted: int | None
    reason: str | None


class Det(NamedTuple):
    """Points of the detection error trade-off, from the highest threshold downwards.

    Attributes:
        fmr: share of the impostor pairs that score at least the threshold, [k].
        fnmr: share of the genuine pairs that score less, [k].
        threshold: [k], inf first.
    """

    fmr: np.ndarray
    fnmr: np.ndarray
    threshold: np.ndarray


def split(scores: np.ndarray, genuine: np.ndarray) -> Scores:
    """Returns the scores of each kind of pair, ascending.

    Args:
        scores: of the pairs, finite [p].
        genuine: whether a pair is of one identity, bool [p].

    Raises:
        ValueError: where the shapes differ, or a score is not finite.
    """
    scores, genuine = np.asarray(scores, np.float64), np.asarray(genuine, bool)
    if scores.ndim != 1 or scores.shape != genuine.shape:
        raise ValueError(
            f"scores and genuine must both be [p], got {scores.shape} and "
            f"{genuine.shape}"
        )
    kinds = Scores(np.sort(scores[genuine]), np.sort(scores[~genuine]))
    # NaN is sorted to the end.
    if not all(np.isfinite(kind[[0, -1]]).all() for kind in kinds if len(kind)):
        raise ValueError("scores must be finite, got NaN or infinite ones")
    return kinds


def auc(scores: Scores) -> float | None:
    """Returns P(genuine > impostor) + P(equal) / 2; None without both kinds.

    >>> auc(Scores(np.array([0.2, 0.9]), np.array([0.1, 0.2])))
    0.875
    """
    genuine, impostor = scores
    if not len(genuine) or not len(impostor):
        return None
    below = np.searchsorted(impostor, genuine, side="left").sum(dtype=np.int64)
    up_to = np.searchsorted(impostor, genuine, side="right").sum(dtype=np.int64)
    return (int(below) + int(up_to)) / (2 * len(genuine) * len(impostor))


def tar_at_far(
    scores: Scores, fars: Sequence[float], *, rule: str = "at_most"
) -> list[RatePoint]:
    """Returns the true accept rate at each wanted false accept rate.

    Args:
        scores: as of `split`.
        fars: wanted false accept rates, from 0 to 1.
        rule: one of RULES.

    Raises:
        ValueError: an unknown rule, or a rate outside 0 to 1.
    """
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r}, must be one of {', '.join(RULES)}")
    if not all(0 <= far <= 1 for far in fars):
        raise ValueError(f"fars must lie from 0 to 1, got {tuple(fars)}")
    for kind, values in zip(("one identity", "two identities"), scores, strict=True):
        if not len(values):
            why = f"no pairs of {kind}"
            return [RatePoint(far, None, None, None, None, why) for far in fars]
    place = {
        "at_most": _at_most,
        "nearest_vertex": _nearest_vertex,
        "nearest": _nearest,
        "linear": _linear,
    }[rule]
    return [place(scores, float(far)) for far in fars]


def det(scores: Scores) -> Det:
    """Returns the errors at inf and at every distinct score downwards.

    FMR is the share of impostor pairs >= the threshold, FNMR that of genuine pairs
    below it. Empty without both kinds of pairs.
    """
    if not all(map(len, scores)):
        return Det(np.empty(0), np.empty(0), np.empty(0))
    return _errors(scores, np.unique(np.concatenate([*scores, [np.inf]]))[::-1])


def thin_det(scores: Scores, *, points: int = 400) -> Det:
    """Returns at most about `points` exact points of the DET, dense at its ends.

    Half of them lie at impostor scores, their counts geometrically spaced, half at
    genuine ones; rates are at least 1/(2n), so that they can be drawn on probit axes.
    """
    if not all(map(len, scores)):
        return Det(np.empty(0), np.empty(0), np.empty(0))
    limits = [[np.inf]]
    for values, descending in ((scores.impostor, True), (scores.genuine, False)):
        n = len(values)
        ranks = np.unique(np.rint(np.geomspace(1, n, points // 2)).astype(np.int64))
        limits.append(values[n - ranks] if descending else values[ranks - 1])
    fmr, fnmr, threshold = _errors(scores, np.unique(np.concatenate(limits))[::-1])
    m, n = map(len, scores)
    return Det(
        np.clip(fmr, 1 / (2 * n), 1 - 1 / (2 * n)),
        np.clip(fnmr, 1 / (2 * m), 1 - 1 / (2 * m)),
        threshold,
    )


def eer(scores: Scores) -> float | None:
    """Returns the equal error rate; None without both kinds of pairs.

    It lies where the straight line between two neighbouring points of the DET crosses
    FMR = FNMR.
    """
    if not all(map(len, scores)):
        return None

    def excess(threshold: float) -> float:
        """Returns FNMR - FMR, which grows with the threshold."""
        fmr, fnmr, _ = _errors(scores, np.array([threshold]))
        return float(fnmr[0] - fmr[0])

    above = np.inf  # the lowest threshold at which FNMR is at least FMR
    for values in scores:
        first = bisect_left(values, 0.0, key=excess)
        if first < len(values):
            above = min(above, float(values[first]))
    below = max(_next_below(values, above) for values in scores)
    fmr, fnmr, _ = _errors(scores, np.array([below, above]))
    # At `below` FMR exceeds FNMR, at `above` it does not.
    gap = fmr - fnmr
    return float(fmr[0] - gap[0] / (gap[0] - gap[1]) * (fmr[0] - fmr[1]))


def _errors(scores: Scores, thresholds: np.ndarray) -> Det:
    m, n = map(len, scores)
    accepted = n - np.searchsorted(scores.impostor, thresholds, side="left")
    missed = np.searchsorted(scores.genuine, thresholds, side="left")
    return Det(accepted / n, missed / m, thresholds)


def _next_below(values: np.ndarray, limit: float) -> float:
    """Returns the largest of ascending values that is below a limit, or -inf."""
    count = int(np.searchsorted(values, limit, side="left"))
    return float(values[count - 1]) if count else -np.inf


def _allowed(far: float, n: int) -> int:
    # The small addition undoes the rounding of products such as 0.29 * 100.
    return min(int(far * n + 1e-9), n)


def _few(far: float, n: int) -> str | None:
    if far * n >= FEW - 1e-9:
        return None
    return f"FAR {far:g} of {n:,} impostor pairs is {far * n:.3g} pairs"


def _point(scores: Scores, far: float, threshold: float) -> RatePoint:
    m, n = map(len, scores)
    accepted = m - int(np.searchsorted(scores.genuine, threshold, side="left"))
    false = n - int(np.searchsorted(scores.impostor, threshold, side="left"))
    return RatePoint(
        far, accepted / m, float(threshold), false / n, accepted, _few(far, n)
    )


def _at_most(scores: Scores, far: float) -> RatePoint:
    impostor, n = scores.impostor, len(scores.impostor)
    allowed = _allowed(far, n)
    if allowed == n:
        return _point(scores, far, -np.inf)
    # Equal impostor pairs are all accepted or all refused.
    return _point(scores, far, np.nextafter(impostor[n - allowed - 1], np.inf))


def _neighbours(scores: Scores, far: float) -> tuple[RatePoint, RatePoint]:
    """Returns the last point of the ROC up to a FAR, and the first one beyond it.

    Both are that of the largest TAR at their FAR. Where all impostor pairs may be
    accepted, both are the last point.
    """
    lower = _at_most(scores, far)
    refused = _next_below(scores.impostor, lower.threshold)
    if np.isneginf(refused):
        return lower, lower
    further = _next_below(scores.impostor, refused)
    limit = -np.inf if np.isneginf(further) else np.nextafter(further, np.inf)
    return lower, _point(scores, far, limit)


def _nearest(scores: Scores, far: float) -> RatePoint:
    lower, upper = _neighbours(scores, far)
    closer = abs(lower.far_reached - far) < abs(upper.far_reached - far)
    return _tight(scores, lower if closer else upper)


def _tight(scores: Scores, point: RatePoint) -> RatePoint:
    """Returns the point with the lowest score it accepts as its threshold."""
    lowest = [
        values[np.searchsorted(values, point.threshold, side="left") :][:1]
        for values in scores
    ]
    threshold = min(np.concatenate(lowest), default=np.inf)
    return point._replace(threshold=float(threshold))


def _linear(scores: Scores, far: float) -> RatePoint:
    lower, upper = _neighbours(scores, far)
    if lower.far_reached == upper.far_reached:
        return lower._replace(threshold=None, accepted=None)
    part = (far - lower.far_reached) / (upper.far_reached - lower.far_reached)
    tar = lower.tar + part * (upper.tar - lower.tar)
    return RatePoint(far, tar, None, far, None, _few(far, len(scores.impostor)))


def _nearest_vertex(scores: Scores, far: float) -> RatePoint:
    """Searches a stretch of the ROC around the FAR, and longer ones until it is sure.

    A corner is sure to be the nearest when it is no further away than the ends of the
    stretch.
    """
    n = len(scores.impostor)
    centre, reach = _allowed(far, n), _WINDOW
    while True:
        least, most = max(centre - reach, 0), min(centre + reach, n)
        fps, tps, thresholds = _stretch(scores, least, most)
        corner = _corners(fps, tps, first=least == 0, last=most == n)
        ends = ([least, fps[0]] if least else []) + (
            [most, fps[-1]] if most < n else []
        )
        sure = np.abs(np.array(ends) / n - far).min(initial=np.inf)
        fps, thresholds = fps[corner], thresholds[corner]
        away = np.abs(fps / n - far)
        if len(away) and away.min() < sure:
            best = len(away) - 1 - int(np.argmin(away[::-1]))
            return _point(scores, far, thresholds[best])
        reach *= 8


def _stretch(
    scores: Scores, least: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the points of the ROC that accept `least` to `most` impostor pairs.

    Returns:
        accepted impostor pairs, ascending [k]; accepted genuine pairs [k]; thresholds
        [k], inf first where `least` is 0.
    """
    genuine, impostor = scores
    m, n = len(genuine), len(impostor)
    bottom = -np.inf if most == n else impostor[n - most]
    top = np.inf if least == 0 else impostor[n - least]
    inside = [
        values[
            np.searchsorted(values, bottom, side="left") : np.searchsorted(
                values, top, side="right"
            )
        ]
        for values in scores
    ]
    thresholds = np.unique(np.concatenate(inside))[::-1]
    if least == 0:
        thresholds = np.concatenate([[np.inf], thresholds])
    fps = n - np.searchsorted(impostor, thresholds, side="left")
    tps = m - np.searchsorted(genuine, thresholds, side="left")
    return fps, tps, thresholds


def _corners(
    fps: np.ndarray, tps: np.ndarray, *, first: bool, last: bool
) -> np.ndarray:
    """Returns which points of a stretch are corners of the whole curve, bool [k].

    Args:
        fps: accepted impostor pairs, ascending [k].
        tps: accepted genuine pairs, ascending [k].
        first: whether the stretch begins where the curve does, at (0, 0).
        last: whether it ends where the curve does.
    """
    corner = np.zeros(len(fps), bool)
    # scikit-learn looks at the points without (0, 0), keeps both ends of them, and
    # those between two steps that differ.
    start = 1 if first else 0
    bends = (np.diff(fps[start:], 2) != 0) | (np.diff(tps[start:], 2) != 0)
    corner[start + 1 : start + 1 + len(bends)] = bends
    if first:
        corner[: start + 1] = True
    if last:
        corner[-1] = True
    return corner
