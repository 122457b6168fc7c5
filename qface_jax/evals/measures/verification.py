"""Cross-validated verification accuracy of pairs, from their distances.

Distances are sorted once per fold and thresholds looked up in them, so there is never
a thresholds-by-pairs table in memory.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from qface_jax.errors import ConfigError
from qface_jax.evals.measures.roc import (
    TarAtFar,
    auc,
    checked,
    equal_error_rate,
    split_sorted,
    tar_at_far,
)
from qface_jax.evals.measures.unit import unit

# Rows normalised and subtracted at a time, in float64: 32 MiB at d 512.
_BLOCK = 8192


class Metric(NamedTuple):
    """A distance of unit embeddings and the grid on which its threshold is sought.

    Attributes:
        description: in words, for the result file.
        factor: the distance is `factor * squared Euclidean distance`.
        stop: thresholds run from 0 up to here, exclusive.
        step: between two thresholds.
    """

    description: str
    factor: float
    stop: float
    step: float

    def thresholds(self) -> np.ndarray:
        """Returns the thresholds, [t] ascending."""
        return np.arange(0, self.stop, self.step)


METRICS = {
    "euclidean": Metric("squared Euclidean distance of unit embeddings", 1.0, 4, 0.01),
    # ||a - b||^2 = 2 - 2 cos for unit vectors; half of it keeps full precision near
    # 0, where 1 - cos would lose it.
    "cosine": Metric("cosine distance (1 - cosine) of embeddings", 0.5, 2, 0.001),
}


class FoldScores(NamedTuple):
    """Cross-validated accuracy and the ROC on the threshold grid.

    Attributes:
        accuracy: share of right decisions per fold, [f].
        threshold: threshold used in each fold, [f].
        tpr: true accept rate per threshold, mean over the folds, [t].
        fpr: false accept rate per threshold, mean over the folds, [t].
    """

    accuracy: np.ndarray
    threshold: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray


@dataclasses.dataclass(frozen=True)
class Score:
    """All numbers of one list of pairs.

    Attributes:
        accuracy: mean over the folds.
        std: population standard deviation over the folds.
        fold_accuracies: per fold.
        fold_thresholds: threshold chosen on the other folds, per fold.
        auc: exact area under the ROC, or None without both kinds of pairs.
        tar_at_far: one entry per rate in `roc.FARS`.
        eer: equal error rate, or None without both kinds of pairs.
    """

    accuracy: float
    std: float
    fold_accuracies: list[float]
    fold_thresholds: list[float]
    auc: float | None
    tar_at_far: list[TarAtFar]
    eer: float | None = None


def score(
    dist: np.ndarray,
    issame: np.ndarray,
    *,
    metric: str,
    folds: int,
    lost: np.ndarray | None = None,
) -> Score:
    """Returns accuracy, AUC, EER and TAR at FAR of pairs.

    Args:
        dist: distance per pair, [p].
        issame: True where a pair shows one identity, bool [p].
        metric: key of `METRICS`; fixes the threshold grid.
        folds: number of contiguous folds, 2..p.
        lost: pairs that are left out, as of `cross_validate`.

    Raises:
        ConfigError: a metric that does not exist, or a wrong number of folds.
    """
    thresholds = metric_named(metric).thresholds()
    folded = cross_validate(dist, issame, thresholds=thresholds, folds=folds, lost=lost)
    if lost is not None:
        dist, issame = np.asarray(dist)[~lost], np.asarray(issame)[~lost]
    return Score(
        accuracy=float(np.mean(folded.accuracy)),
        std=float(np.std(folded.accuracy)),
        fold_accuracies=folded.accuracy.tolist(),
        fold_thresholds=folded.threshold.tolist(),
        auc=auc(dist, issame),
        tar_at_far=tar_at_far(dist, issame),
        eer=equal_error_rate(dist, issame),
    )


def metric_named(name: str) -> Metric:
    """Returns the metric called `name`, or raises ConfigError with the known names."""
    if name not in METRICS:
        known = ", ".join(sorted(METRICS))
        raise ConfigError(f"eval.metric: got {name!r}, must be one of: {known}")
    return METRICS[name]


def distances(
    features_a: np.ndarray, features_b: np.ndarray, *, metric: str
) -> np.ndarray:
    """Returns the distance of row i of one array from row i of the other.

    Args:
        features_a: not necessarily unit length, [p, d].
        features_b: the same, [p, d].
        metric: key of `METRICS`.

    Returns:
        float64 [p]; NaN where a feature is not finite.
    """
    if features_a.shape != features_b.shape:
        raise ValueError(
            "features of the two sides must have one shape, got "
            f"{features_a.shape} and {features_b.shape}"
        )
    factor = metric_named(metric).factor
    dist = np.empty(len(features_a), np.float64)
    for begin in range(0, len(dist), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        with np.errstate(invalid="ignore"):
            diff = unit(features_a[rows]) - unit(features_b[rows])
        dist[rows] = factor * np.einsum("pd,pd->p", diff, diff)
    return dist


def fold_bounds(pairs: int, folds: int) -> np.ndarray:
    """Returns the borders of contiguous folds, int [folds + 1].

    The first `pairs % folds` folds are one pair longer (as scikit-learn's KFold).

    >>> fold_bounds(11, 3).tolist()
    [0, 4, 8, 11]
    """
    if not 2 <= folds <= pairs:
        raise ConfigError(
            f"eval.folds: got {folds}, must be from 2 to the number of pairs ({pairs})"
        )
    lengths = np.full(folds, pairs // folds)
    lengths[: pairs % folds] += 1
    return np.concatenate([[0], np.cumsum(lengths)])


def check_folds(issame: np.ndarray, folds: int, name: str) -> None:
    """Refuses contiguous folds of which one lacks a kind of pairs.

    The threshold that the other folds choose would not be tested on both kinds, and
    all chosen thresholds would lean to the kind that the folds together lack.

    Args:
        issame: bool [p], both kinds.
        folds: number of contiguous folds.
        name: of the set, for the message.

    Raises:
        ConfigError: with the number of folds, below this one, whose folds hold both
            kinds most evenly; of equally even ones the largest.
    """
    rarest = _rarest_share(issame, folds)
    if rarest.all():
        return
    # To one digit: a pair more or less in a fold must not cost folds.
    evenness = {n: _rarest_share(issame, n).min() for n in range(2, folds)}
    best = max(evenness, key=lambda n: (round(evenness[n], 1), n), default=folds)
    advice = "let pairs of one and of two people alternate in the file"
    if evenness.get(best):
        advice = f"use --config.eval.folds={best}"
    raise ConfigError(
        f"eval.folds: got {folds}, but {np.sum(rarest == 0)} of the {folds} contiguous "
        f"folds of {name} hold pairs of one kind only, expected pairs of one person "
        f"and of two in each; {advice}"
    )


def _rarest_share(issame: np.ndarray, folds: int) -> np.ndarray:
    """Returns the share of the rarer kind of pairs in each contiguous fold, [f]."""
    bounds = fold_bounds(len(issame), folds)
    same = np.add.reduceat(issame, bounds[:-1], dtype=np.int64) / np.diff(bounds)
    return np.minimum(same, 1 - same)


def cross_validate(
    dist: np.ndarray,
    issame: np.ndarray,
    *,
    thresholds: np.ndarray,
    folds: int,
    lost: np.ndarray | None = None,
) -> FoldScores:
    """Applies to each fold the threshold that is best on all the others.

    A pair is accepted when `dist < threshold`; of equally good thresholds the
    smallest is taken. Rates of a fold without such pairs count as 0.

    Args:
        dist: distance per pair, [p].
        issame: bool [p].
        thresholds: [t] ascending.
        folds: number of contiguous folds, 2..p.
        lost: pairs without a distance, bool [p]: they keep their place in the folds
            and choose or test no threshold. Some of each fold must be left.

    References:
        insightface, `recognition/arcface_torch/eval/verification.py`.
    """
    dist, issame = checked(dist, issame)
    bounds = fold_bounds(len(dist), folds)
    kept = np.ones(len(dist), bool) if lost is None else ~np.asarray(lost, bool)
    accepted_same = np.empty((folds, len(thresholds)), np.int64)
    accepted_different = np.empty_like(accepted_same)
    same_pairs = np.empty(folds, np.int64)
    for fold in range(folds):
        rows = bounds[fold] + np.flatnonzero(kept[bounds[fold] : bounds[fold + 1]])
        same, different = split_sorted(dist[rows], issame[rows])
        # side="left" counts the elements strictly below the threshold.
        accepted_same[fold] = np.searchsorted(same, thresholds, side="left")
        accepted_different[fold] = np.searchsorted(different, thresholds, side="left")
        same_pairs[fold] = len(same)
    lengths = np.add.reduceat(kept, bounds[:-1], dtype=np.int64)
    if not lengths.all():
        raise ValueError(f"lost: got all pairs of fold {np.argmin(lengths)}")
    different_pairs = lengths - same_pairs
    right = accepted_same + different_pairs[:, None] - accepted_different
    # Integer counts of the other folds: their argmax has no rounding to depend on.
    best = np.argmax(right.sum(axis=0) - right, axis=1)
    return FoldScores(
        accuracy=right[np.arange(folds), best] / lengths,
        threshold=np.asarray(thresholds)[best],
        tpr=np.mean(accepted_same / np.maximum(same_pairs, 1)[:, None], axis=0),
        fpr=np.mean(
            accepted_different / np.maximum(different_pairs, 1)[:, None], axis=0
        ),
    )
