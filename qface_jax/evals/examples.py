"""Pairs and probes that were judged most wrongly, to look at.

Only a few of them are kept: scores come as one number a pair or probe, and for the
worst probes alone the gallery is gone through again, block by block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qface_jax.evals.measures.search import DECIMALS, NOBODY
from qface_jax.evals.results import Example
from qface_jax.processes.share import ALONE, Share

WORST = 12  # of a group
_BLOCK = 4096  # rows of the gallery at a time


class Worst(NamedTuple):
    """Pairs that are scored most wrongly.

    Attributes:
        false_matches: numbers of the impostor pairs that score highest.
        false_nonmatches: numbers of the genuine pairs that score lowest.
    """

    false_matches: np.ndarray
    false_nonmatches: np.ndarray


class Nearest(NamedTuple):
    """Whom probes find.

    Attributes:
        mate: row of the best entry of the probe's identity, int64 [k]; -1 without one.
        other: of the best entry of another identity, likewise.
    """

    mate: np.ndarray
    other: np.ndarray


def worst(scores: np.ndarray, genuine: np.ndarray) -> Worst:
    """Returns the pairs that are scored most wrongly, the worst first.

    Args:
        scores: of the pairs, [p]; infinite ones are of pairs that cannot be compared.
        genuine: whether they are of one person, bool [p].
    """
    return Worst(
        lowest(np.where(genuine, np.inf, -scores)),
        lowest(np.where(genuine, scores, np.inf)),
    )


def lowest(values: np.ndarray, count: int = WORST) -> np.ndarray:
    """Returns the places of the lowest finite values, the lowest first, int64 [k]."""
    values = np.where(np.isfinite(values), values, np.inf)
    count = min(count, len(values))
    rows = np.argpartition(values, count - 1)[:count] if count else np.empty(0, int)
    rows = rows[np.lexsort((rows, values[rows]))]
    return rows[np.isfinite(values[rows])]


def of_pairs(
    scores: np.ndarray, genuine: np.ndarray, images: np.ndarray
) -> list[Example]:
    """Returns the worst false matches and non-matches.

    Args:
        scores: of the pairs, the higher the more alike, [p].
        genuine: whether they are of one person, bool [p].
        images: numbers of both images of each pair, int [p, 2].
    """
    pairs = worst(scores, genuine)
    groups = {
        "worst false matches": pairs.false_matches,
        "worst false non-matches": pairs.false_nonmatches,
    }
    return [
        Example(group, float(scores[pair]), [int(image) for image in images[pair]])
        for group, chosen in groups.items()
        for pair in chosen
    ]


def missed(mate: np.ndarray, nonmate: np.ndarray) -> np.ndarray:
    """Returns the probes that lie furthest from their mates, the worst first.

    Args:
        mate: score of each probe's best mate, [p].
        nonmate: of its best entry of another person, [p].

    Returns:
        Numbers of probes whom another person beats or equals, int64 [k].
    """
    with np.errstate(invalid="ignore"):  # of two that found nothing
        margin = mate - nonmate
    return lowest(np.where(margin <= 0, margin, np.inf))


def nearest(
    gallery: np.ndarray,
    gallery_ids: np.ndarray,
    probes: np.ndarray,
    probe_ids: np.ndarray,
    *,
    share: Share = ALONE,
) -> Nearest:
    """Returns the entries that a few probes find, by score and then by row.

    Args:
        gallery: this host's rows of it, unit vectors [g, d]; zero ones are nobody.
        gallery_ids: identity of each row, [g].
        probes: unit vectors [k, d], the same on all hosts.
        probe_ids: identity of each probe, [k]; NOBODY has no mate.
        share: this host's part.

    Returns:
        Rows in the gallery of all hosts.
    """
    counts = share.gather(np.array([len(gallery)], np.int64))
    offset = int(counts[: share.index].sum())
    score = np.full((2, len(probes)), -np.inf)
    row = np.full((2, len(probes)), -1, np.int64)
    for start in range(0, len(gallery), _BLOCK):
        entries = np.asarray(gallery[start : start + _BLOCK], np.float64)
        scores = np.einsum("kd,gd->kg", np.asarray(probes, np.float64), entries)
        scores = scores.round(DECIMALS)
        scores[:, ~entries.any(axis=1)] = -np.inf
        same = gallery_ids[start : start + _BLOCK] == probe_ids[:, None]
        same &= (probe_ids != NOBODY)[:, None]
        for kind, of_kind in enumerate((same, ~same)):
            of_this_kind = np.where(of_kind, scores, -np.inf)
            place = of_this_kind.argmax(axis=1)
            best = of_this_kind[np.arange(len(probes)), place]
            better = best > score[kind]
            score[kind][better] = best[better]
            row[kind][better] = offset + start + place[better]
    of_hosts = share.gather(score[None]).argmax(axis=0)
    rows = share.gather(row[None])
    return Nearest(*np.take_along_axis(rows, of_hosts[None], axis=0)[0])


def of_probes(
    group: str, scores: np.ndarray, images: Sequence[np.ndarray]
) -> list[Example]:
    """Returns probes beside what they found.

    Args:
        group: heading that they stand under.
        scores: of what each of them found, [k].
        images: numbers of the pictures to be shown side by side, [k] each.
    """
    return [
        Example(group, float(score), [int(image) for image in shown])
        for score, *shown in zip(scores, *images, strict=True)
    ]
