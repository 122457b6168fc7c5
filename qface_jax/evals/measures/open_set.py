"""Open-set identification: found mates at a rate of false alarms.

A probe with a mate in the gallery is identified when the mate is within the rank and
scores enough (true positive identification rate, TPIR). A probe without one raises a
false alarm when any entry scores enough (false positive identification rate, FPIR).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# How the threshold t follows from an FPIR f and the n probes without a mate:
# at_most    smallest t that lets in at most f n of them; accepted: score >= t.
# published  t = score of the max(int(f n), 1)-th, accepted: score > t. As insightface
#            and Keras_insightface do it for IJB: one false alarm fewer than allowed.
# rounded    t = score of the round(f n)-th, accepted: score >= t; above the first where
#            that is 0. As PFE, AdaFace (IJB-S) and CVLface: may exceed f.
RULES = ("at_most", "published", "rounded")

_ABOVE_ALL = 1e-5  # what PFE adds to the best score to stay above it


class OpenSetPoint(NamedTuple):
    """One operating point.

    Attributes:
        fpir: the wanted rate of false alarms.
        tpir: share of the mated probes that are identified; None where there are no
            mated or no non-mated probes.
        threshold: of the score; None likewise.
        fpir_reached: rate of false alarms at this threshold; None likewise.
        reason: why there is no number, or why it says little; None without.
        identified: count behind `tpir`; None likewise.
    """

    fpir: float
    tpir: float | None
    threshold: float | None
    fpir_reached: float | None
    reason: str | None
    identified: int | None = None


def tpir_at_fpir(
    mate_scores: np.ndarray,
    ranks: np.ndarray,
    nonmated_best: np.ndarray,
    fpirs: Sequence[float],
    *,
    rank: int = 1,
    rule: str = "at_most",
) -> list[OpenSetPoint]:
    """Returns the rate of identified mated probes at each rate of false alarms.

    Args:
        mate_scores: of each mated probe the score of its best mate, [m]; -inf: none
            that can be scored.
        ranks: of that mate, from 1, [m]; see `search.ranks`.
        nonmated_best: of each probe without a mate its best score, [n]; -inf where the
            probe cannot be scored: it raises no alarm.
        fpirs: wanted rates of false alarms, from 0 to 1.
        rank: largest rank of the mate; one above the gallery's size asks for the score
            alone.
        rule: one of RULES.

    Raises:
        ValueError: an unknown rule, a rate outside 0 to 1, or NaN among the scores.
    """
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r}, must be one of {', '.join(RULES)}")
    if not all(0 <= fpir <= 1 for fpir in fpirs):
        raise ValueError(f"fpirs must lie from 0 to 1, got {tuple(fpirs)}")
    scores, alarms = (np.asarray(x, np.float64) for x in (mate_scores, nonmated_best))
    if np.isnan(scores).any() or np.isnan(alarms).any():
        raise ValueError("scores must be numbers, got NaN")
    near = np.sort(scores[np.asarray(ranks) <= rank])
    alarms = np.sort(alarms)
    return [_point(near, len(scores), alarms, float(fpir), rule) for fpir in fpirs]


def curve(
    mate_scores: np.ndarray,
    ranks: np.ndarray,
    nonmated_best: np.ndarray,
    *,
    rank: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns every point of TPIR over FPIR: from no false alarm to nothing but.

    Accepted is score >= t, for t above all scores and at every distinct score downwards
    of the probes without a mate and of the mated ones.

    Returns:
        FPIR, ascending [k]; TPIR [k]. Empty without mated or non-mated probes.
    """
    scores, alarms = (np.asarray(x, np.float64) for x in (mate_scores, nonmated_best))
    if not len(scores) or not len(alarms):
        return np.empty(0), np.empty(0)
    near, alarms = np.sort(scores[np.asarray(ranks) <= rank]), np.sort(alarms)
    limits = np.unique(np.concatenate([near, alarms, [np.inf]]))[::-1]
    return (
        1 - np.searchsorted(alarms, limits, side="left") / len(alarms),
        (len(near) - np.searchsorted(near, limits, side="left")) / len(scores),
    )


def area(fpir: np.ndarray, tpir: np.ndarray) -> float | None:
    """Returns the area below TPIR over FPIR by trapezoids; None without points."""
    return float(np.trapezoid(tpir, fpir)) if len(fpir) else None


def _point(
    near: np.ndarray, mated: int, alarms: np.ndarray, fpir: float, rule: str
) -> OpenSetPoint:
    """Returns one point.

    Args:
        near: scores of the mates within the rank, ascending.
        mated: count of the mated probes.
        alarms: best scores of the probes without a mate, ascending.
        fpir: wanted rate of false alarms.
        rule: one of RULES.
    """
    n = len(alarms)
    if not mated or not n:
        which = "with" if not mated else "without"
        return OpenSetPoint(fpir, None, None, None, f"no probes {which} a mate")
    threshold, side = _threshold(alarms, fpir, rule)
    identified = len(near) - int(np.searchsorted(near, threshold, side=side))
    reached = (n - int(np.searchsorted(alarms, threshold, side=side))) / n
    few = None
    if fpir * n < 1:
        few = f"{n:,} probes without a mate cannot tell {fpir:g} from 0"
    tpir = identified / mated
    return OpenSetPoint(fpir, tpir, threshold, reached, few, identified)


def _threshold(alarms: np.ndarray, fpir: float, rule: str) -> tuple[float, str]:
    """Returns a threshold, and the side of equal scores that is rejected."""
    n = len(alarms)
    if rule == "published":
        return float(alarms[n - max(int(n * fpir), 1)]), "right"
    if rule == "rounded":
        allowed = round(n * fpir)
        best = float(alarms[-1]) + _ABOVE_ALL
        return (float(alarms[n - allowed]) if allowed else best), "left"
    # The small addition undoes the rounding of products such as 0.29 * 100.
    allowed = int(fpir * n + 1e-9)
    if allowed >= n:
        return -np.inf, "left"
    return float(np.nextafter(alarms[n - allowed - 1], np.inf)), "left"
