"""ROC, area under it, equal error rate and true accept rate at a FAR, all exact.

Distances are sorted and looked up: eight million pairs need one copy of themselves.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from qface_jax.evals.measures import rates

# False accept rates at which the true accept rate is reported.
FARS = (1e-1, 1e-2, 1e-3, 1e-4)


@dataclasses.dataclass(frozen=True)
class TarAtFar:
    """One operating point; `tar` and `threshold` are None where `reason` says why.

    Attributes:
        far: the allowed false accept rate.
        tar: largest true accept rate over all thresholds that keep the false accept
            rate at or below `far`.
        threshold: the exact one: a pair is accepted when its distance is below it.
        false_accepts: different pairs accepted at this threshold.
        reason: why there is no number, or None.
    """

    far: float
    tar: float | None
    threshold: float | None
    false_accepts: int | None
    reason: str | None


def auc(dist: np.ndarray, issame: np.ndarray) -> float | None:
    """Returns the exact area under the ROC, P(d_same < d_different) + P(equal) / 2.

    None when one kind of pair is missing.

    >>> auc(np.array([0.1, 0.2, 0.2, 0.9]), np.array([True, True, False, False]))
    0.875
    """
    same, different = split_sorted(*checked(dist, issame))
    if not len(same) or not len(different):
        return None
    below = np.searchsorted(different, same, side="left").sum(dtype=np.int64)
    up_to = np.searchsorted(different, same, side="right").sum(dtype=np.int64)
    return 1 - (int(below) + int(up_to)) / (2 * len(same) * len(different))


def equal_error_rate(dist: np.ndarray, issame: np.ndarray) -> float | None:
    """Returns where false accept rate and 1 - true accept rate are equal, 0..1.

    It lies on the straight line between two neighbouring points of the ROC. None when
    one kind of pair is missing.

    >>> equal_error_rate(
    ...     np.array([0.1, 0.4, 0.2, 0.9]), np.array([True, True, False, False])
    ... )
    0.5

    Args:
        dist: distance per pair, finite [p].
        issame: bool [p].
    """
    dist, issame = checked(dist, issame)
    return rates.eer(rates.split(-dist, issame))


def tar_at_far(
    dist: np.ndarray, issame: np.ndarray, *, fars: Sequence[float] = FARS
) -> list[TarAtFar]:
    """Returns the best true accept rate whose false accept rate is at most each rate.

    The threshold is exact (a distance of the list, not a grid point) and nothing is
    interpolated. With n different pairs no rate below 1/n can be told from 0, so
    below that the answer is None and the reason.

    Args:
        dist: distance per pair, [p].
        issame: bool [p].
        fars: allowed false accept rates, between 0 and 1, both exclusive.
    """
    if not all(0 < far < 1 for far in fars):
        raise ValueError(f"fars must lie between 0 and 1, got {fars}")
    same, different = split_sorted(*checked(dist, issame))
    return [_operating_point(same, different, far) for far in fars]


def roc(
    dist: np.ndarray, issame: np.ndarray, *, points: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Returns at most `points` exact points of the ROC for a logarithmic FAR axis.

    Returns:
        false accept rates from 1/n up to 1, ascending [k]; the true accept rate at
        each of them [k]. Both are empty when one kind of pair is missing.
    """
    same, different = split_sorted(*checked(dist, issame))
    n = len(different)
    if not n or not len(same):
        return np.empty(0), np.empty(0)
    allowed = np.unique(np.rint(np.geomspace(1, n, points)).astype(np.int64))
    limits = np.append(different, np.inf)[allowed]
    return allowed / n, np.searchsorted(same, limits, side="left") / len(same)


def checked(dist: np.ndarray, issame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as float64 and bool arrays; ValueError unless both are [p]."""
    dist, issame = np.asarray(dist, np.float64), np.asarray(issame, bool)
    if dist.ndim != 1 or dist.shape != issame.shape:
        raise ValueError(
            f"dist and issame must both be [p], got {dist.shape} and {issame.shape}"
        )
    return dist, issame


def split_sorted(dist: np.ndarray, issame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances of same and of different pairs, each ascending."""
    return np.sort(dist[issame]), np.sort(dist[~issame])


def _operating_point(same: np.ndarray, different: np.ndarray, far: float) -> TarAtFar:
    n = len(different)
    # The small addition undoes the rounding of products such as 0.29 * 100.
    allowed = int(far * n + 1e-9)
    if not len(same):
        reason = "no pairs of one identity"
        return TarAtFar(far, None, None, None, reason)
    if allowed < 1:
        reason = f"needs at least {round(1 / far):,} different pairs, there are {n:,}"
        return TarAtFar(far, None, None, None, reason)
    # Accepting strictly below the next impostor's distance keeps ties on the safe
    # side: at most `allowed` different pairs pass.
    limit = float(different[allowed])
    return TarAtFar(
        far=far,
        tar=float(np.searchsorted(same, limit, side="left") / len(same)),
        threshold=limit,
        false_accepts=int(np.searchsorted(different, limit, side="left")),
        reason=None,
    )
