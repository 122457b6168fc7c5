"""The gallery entries most similar to each probe: exact, one block after another."""

from typing import NamedTuple

import numpy as np

from qface_jax.evals.measures.search import DECIMALS

NONE = -1  # row where a gallery has fewer entries than are asked for

_SCALE = 10.0**DECIMALS
_GALLERY_BLOCK, _PROBE_BLOCK = 16384, 1024  # 64 MiB of scores at a time
_PAIRS = 4096  # in float64 at a time
_STEP = 2.0**-23  # between 1 and the next number of float32
_BELOW_ALL = np.float32(-2)  # unit vectors score -1 at least


class Nearest(NamedTuple):
    """The k best entries of each probe, by falling score; of equal ones by row.

    Attributes:
        row: of the entry in the gallery, int64 [p, k]; NONE beyond the last entry.
        score: dot product in float64, rounded to `search.DECIMALS`, float64 [p, k];
            -inf where there is no entry.
    """

    row: np.ndarray
    score: np.ndarray


def nearest(
    gallery: np.ndarray, probes: np.ndarray, k: int, *, block: int = _GALLERY_BLOCK
) -> Nearest:
    """Returns the entries that score most with each probe.

    Scores are taken in float32 first; those that may be among the k best, by the bound
    on the rounding of such a sum, again in float64. So the answer is that of float64,
    at the price of float32.

    Args:
        gallery: unit vectors [g, d], float32. A zero vector is nobody's neighbour.
        probes: unit vectors [p, d]. A zero vector has no neighbours.
        k: entries wanted, at least 1.
        block: rows of the gallery at a time.

    Raises:
        ValueError: where the arrays do not fit together, or k is below 1.
    """
    if gallery.ndim != 2 or probes.ndim != 2 or gallery.shape[1] != probes.shape[1]:
        raise ValueError(
            "gallery and probes must be [g, d] and [p, d], got "
            f"{gallery.shape} and {probes.shape}"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    found = Nearest(
        np.full((len(probes), k), NONE, np.int64), np.full((len(probes), k), -np.inf)
    )
    # A sum of d products of unit vectors is off by d / 2 steps at most, and so is the
    # k-th best that it is compared with; the rest is for rounding to float32.
    slack = (gallery.shape[1] + 8) * _STEP
    for start in range(0, len(gallery), block):
        vectors = np.asarray(gallery[start : start + block], np.float32)
        empty = ~vectors.any(axis=1)
        for first in range(0, len(probes), _PROBE_BLOCK):
            asked = np.asarray(probes[first : first + _PROBE_BLOCK])
            rough = np.asarray(asked, np.float32) @ vectors.T
            rough[:, empty] = -np.inf
            rough[~asked.any(axis=1)] = -np.inf
            limit = _limit(rough, found.score[first : first + len(asked)]) - slack
            # Over all at once: asked for rows and columns NumPy takes far longer.
            places = np.flatnonzero(rough >= limit[:, None])
            probe, row = np.divmod(places, len(vectors))
            score = _exact(asked, vectors, probe, row)
            _merge(found, first + probe, start + row, score)
    return found


def _limit(rough: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Returns what an entry must score to be among the k best, float32 [p].

    Args:
        rough: scores of a block, [p, g]; -inf of what never is among them.
        best: the k best so far, [p, k].
    """
    k = best.shape[1]
    limit = best[:, -1].astype(np.float32)
    # To look into the whole block costs as much as the scores; it is needed while
    # there are no k entries yet, in the first block.
    new = np.flatnonzero(np.isinf(limit))
    if len(new) and rough.shape[1] > k:
        limit[new] = np.partition(rough[new], -k, axis=1)[:, -k]
    return np.maximum(limit, _BELOW_ALL)


def _exact(
    probes: np.ndarray, vectors: np.ndarray, probe: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Returns the scores of some pairs in float64, rounded, [m]."""
    score = np.empty(len(probe))
    for start in range(0, len(probe), _PAIRS):
        part = slice(start, start + _PAIRS)
        one = np.asarray(probes[probe[part]], np.float64)
        other = np.asarray(vectors[row[part]], np.float64)
        score[part] = np.rint(_SCALE * np.einsum("md,md->m", one, other)) / _SCALE
    return score


def _merge(
    found: Nearest, probe: np.ndarray, row: np.ndarray, score: np.ndarray
) -> None:
    """Puts entries among the k best of their probes; `found` is changed.

    Args:
        found: the best so far.
        probe: of each entry, [m].
        row: of each entry, [m].
        score: of each entry, [m].
    """
    k = found.row.shape[1]
    changed = np.unique(probe)
    probe = np.concatenate([np.repeat(changed, k), probe])
    row = np.concatenate([found.row[changed].ravel(), row])
    score = np.concatenate([found.score[changed].ravel(), score])
    order = np.lexsort((row, -score, probe))
    probe = probe[order]
    order = order[np.arange(len(probe)) - np.searchsorted(probe, probe) < k]
    found.row[changed] = row[order].reshape(-1, k)
    found.score[changed] = score[order].reshape(-1, k)
