"""Closed-set identification: cumulative match characteristic and average precision."""

import numpy as np

from qface_jax.evals.measures.search import NEVER, Mates, preceding


def first_ranks(mates: Mates, ties: str = "pessimistic") -> np.ndarray:
    """Returns the rank of each probe's first mate, from 1, int64 [p].

    NEVER where there is no mate, or none that can be scored.

    Args:
        mates: of `search.rank_mates`.
        ties: one of `search.TIES`.
    """
    ranks = np.full(len(mates.nonmate), NEVER)
    seen = np.isfinite(mates.score)
    # The others of a probe stand behind its first.
    np.minimum.at(ranks, mates.probe[seen], 1 + preceding(mates, ties)[seen])
    return ranks


def cmc(ranks: np.ndarray, largest: int) -> np.ndarray:
    """Returns the share of probes whose mate is within rank 1, 2, .. largest, float64.

    >>> cmc(np.array([1, 3, 3, NEVER]), 4)
    array([0.25, 0.25, 0.75, 0.75])
    """
    within = np.bincount(ranks[ranks <= largest], minlength=largest + 1)[1:]
    return np.cumsum(within) / max(len(ranks), 1)


def average_precision(mates: Mates, ties: str = "pessimistic") -> np.ndarray:
    """Returns the average precision of each probe as TinyFace defines it, [p].

    Walking down the ranking, each mate adds the trapezoid of precision over recall
    between the entry before it and itself; the precision before the first entry is 1.
    A mate or a probe that cannot be scored, and a probe without mates, adds 0. This is
    not the usual average precision, which takes the precision at the mates alone.

    Args:
        mates: of `search.rank_mates`.
        ties: one of `search.TIES`.
    """
    p = len(mates.nonmate)
    # Mates of one probe follow one another by falling score.
    number = np.arange(len(mates.probe)) - np.searchsorted(mates.probe, mates.probe)
    place = preceding(mates, ties) + number  # entries before the mate
    before = np.where(place == 0, 1, number / np.maximum(place, 1))
    terms = (before + (number + 1) / (place + 1)) / 2
    terms[~np.isfinite(mates.score)] = 0
    count = np.bincount(mates.probe, minlength=p)
    return np.bincount(mates.probe, terms, minlength=p) / np.maximum(count, 1)
