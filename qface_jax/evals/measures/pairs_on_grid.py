"""Verification as QMUL-SurvFace's evaluation does it: on a grid of distances."""

from collections.abc import Sequence

import numpy as np

from qface_jax.errors import ConfigError
from qface_jax.evals.measures.verification import cross_validate

FOLDS = 10
# Euclidean distances of unit features; a pair is accepted below one.
THRESHOLDS = np.arange(200, 2001) / 1000


def tar_on_grid(
    same: np.ndarray, different: np.ndarray, fars: Sequence[float]
) -> list[float]:
    """Returns the true accept rate at each false accept rate, by straight lines.

    The lines join the rates at neighbouring thresholds of the grid. Unlike the exact
    rate at most at a FAR, a point between two is no threshold's.

    Args:
        same: distances of pairs of one identity, [a], at least one.
        different: distances of pairs of two identities, [b], at least one.
        fars: wanted false accept rates.
    """
    far, tar = (
        np.searchsorted(np.sort(distances), THRESHOLDS) / len(distances)
        for distances in (different, same)
    )
    return np.interp(fars, far, tar).tolist()


def fold_accuracy(
    same: np.ndarray, different: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the accuracy and the threshold of each of ten folds, [10] each.

    A fold is the next n // 10 pairs of each kind, in the order of the lists; its
    threshold is the first best on the others. Pairs left over are not used.

    Args:
        same: distances of pairs of one identity, [n].
        different: distances of pairs of two identities, [n].

    Raises:
        ConfigError: fewer than ten pairs of a kind.
    """
    size = min(len(same), len(different)) // FOLDS
    if not size:
        raise ConfigError(
            f"ten folds need ten pairs of each kind, got {len(same)} and "
            f"{len(different)}"
        )
    kinds = [distances[: FOLDS * size].reshape(FOLDS, size) for distances in
             (np.asarray(same), np.asarray(different))]  # fmt: skip
    issame = np.tile(np.arange(2 * size) < size, FOLDS)
    folded = cross_validate(
        np.concatenate(kinds, axis=1).ravel(),
        issame,
        thresholds=THRESHOLDS,
        folds=FOLDS,
    )
    return folded.accuracy, folded.threshold
