"""Scores of listed pairs of vectors, in blocks: never all pairs' vectors at once."""

from collections.abc import Callable

import numpy as np

from qface_jax.evals.measures.search import DECIMALS

UNSCORED = -2.0  # of a pair with a zero vector; cosines end at -1

# One pair scored by itself costs about as much as this many cells of a matrix product:
# two rows are fetched for each.
_CELLS = 24
_ROWS, _LEFTS = 8192, 128  # pairs, or rows of the matrix, at a time
_SCALE = 10.0**DECIMALS

Scorer = Callable[[np.ndarray], np.ndarray]


def scorer(left: np.ndarray, right: np.ndarray) -> Scorer:
    """Returns the function that scores these pairs.

    Where many of the possible pairs are listed (IJB: a quarter) it takes blocks of the
    matrix product, else row by row. Either way scores are dot products in float64,
    rounded to nine decimals, so that equal vectors tie.

    Args:
        left: row of each pair's first vector, [p].
        right: row of its second one, [p].

    Returns:
        unit vectors [t, d] -> float64 [p], UNSCORED where one of the vectors is zero.
    """
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(
            f"left and right must both be [p], got {left.shape} and {right.shape}"
        )
    lefts, rights = _distinct(left), _distinct(right)
    if len(lefts) * len(rights) <= _CELLS * len(left):
        return _of_matrix(left, right, lefts, rights)
    return lambda vectors: _by_rows(vectors, left, right)


def _distinct(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.bincount(rows))


def _of_matrix(
    left: np.ndarray, right: np.ndarray, lefts: np.ndarray, rights: np.ndarray
) -> Scorer:
    # By left vector, so that a block of the matrix serves a run of pairs.
    by_left = np.argsort(left, kind="stable") if np.any(np.diff(left) < 0) else None
    if by_left is not None:
        left, right = left[by_left], right[by_left]
    row = np.zeros(int(lefts.max(initial=-1)) + 1, np.int32)
    row[lefts] = np.arange(len(lefts)) % _LEFTS  # within its block
    column = np.zeros(int(rights.max(initial=-1)) + 1, np.int32)
    column[rights] = np.arange(len(rights))
    cells = row[left] * np.int32(len(rights)) + column[right]
    ends = np.searchsorted(left, lefts[_LEFTS - 1 :: _LEFTS], side="right")
    bounds = [0, *ends.tolist(), len(left)]

    def score(vectors: np.ndarray) -> np.ndarray:
        others = np.asarray(vectors[rights], np.float64)
        zero = ~others.any(axis=1)
        ordered = np.empty(len(left))
        for block, start in enumerate(range(0, len(lefts), _LEFTS)):
            asked = np.asarray(vectors[lefts[start : start + _LEFTS]], np.float64)
            matrix = asked @ others.T
            matrix[~asked.any(axis=1)] = UNSCORED
            matrix[:, zero] = UNSCORED
            pairs = slice(bounds[block], bounds[block + 1])
            ordered[pairs] = matrix.ravel()[cells[pairs]]
        _rounded(ordered)
        if by_left is None:
            return ordered
        scores = np.empty(len(left))
        scores[by_left] = ordered
        return scores

    return score


def _by_rows(vectors: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    scores = np.empty(len(left))
    for start in range(0, len(left), _ROWS):
        block = slice(start, start + _ROWS)
        one, other = (
            np.asarray(vectors[rows[block]], np.float64) for rows in (left, right)
        )
        scores[block] = _rounded(np.einsum("pd,pd->p", one, other))
        scores[block][~(one.any(axis=1) & other.any(axis=1))] = UNSCORED
    return scores


def _rounded(scores: np.ndarray) -> np.ndarray:
    scores *= _SCALE
    np.rint(scores, out=scores)
    scores /= _SCALE
    return scores
