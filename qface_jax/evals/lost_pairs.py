"""Pairs that cannot be compared, since one of their images is missing or unusable.

To leave them out silently would raise the result. The accuracy is given of the pairs
that are left, and of all pairs with the lost ones counted as wrong.
"""

import numpy as np

from qface_jax.errors import DataError
from qface_jax.evals.measures.verification import Score, fold_bounds


def lost_pairs(
    unusable: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    folds: int,
    place: str,
) -> np.ndarray:
    """Returns which pairs have an unusable image, bool [p].

    Args:
        unusable: of each image, bool [n].
        first: number of the first image of each pair, [p].
        second: of the second, [p].
        folds: number of contiguous folds.
        place: where the images are, for the message.

    Raises:
        DataError: no pair of a fold is left.
    """
    lost = unusable[first] | unusable[second]
    left = _left(lost, folds)
    if not left.all():
        raise DataError(
            f"{place}: got no usable pair of fold {int(np.argmin(left)) + 1} of "
            f"{folds}, expected some of each; {int(unusable.sum()):,} of "
            f"{len(unusable):,} images are missing or no images: copy them again"
        )
    return lost


def with_lost_wrong(score: Score, lost: np.ndarray) -> tuple[float, float]:
    """Returns accuracy and its deviation over the folds, lost pairs being wrong.

    Args:
        score: of the pairs that are left.
        lost: of all pairs, bool [p].
    """
    folds = len(score.fold_accuracies)
    lengths = np.diff(fold_bounds(len(lost), folds))
    accuracies = np.asarray(score.fold_accuracies) * _left(lost, folds) / lengths
    return float(accuracies.mean()), float(accuracies.std())


def warnings(lost: np.ndarray, unusable: np.ndarray) -> list[str]:
    """Returns a sentence on the lost pairs; [] where there is none.

    Args:
        lost: bool [p].
        unusable: of each image, bool [n].
    """
    if not unusable.any():
        return []
    return [
        f"{int(lost.sum()):,} of {len(lost):,} pairs are lost with "
        f"{int(unusable.sum()):,} of {len(unusable):,} images that are missing, cannot "
        "be read or cannot be aligned: the accuracy is of the other pairs; beside it "
        "the lost ones are counted as wrong"
    ]


def _left(lost: np.ndarray, folds: int) -> np.ndarray:
    """Returns how many pairs of each fold are left, int64 [f]."""
    bounds = fold_bounds(len(lost), folds)
    return np.add.reduceat(~lost, bounds[:-1], dtype=np.int64)
