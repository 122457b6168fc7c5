"""Unit features of many images, asked for block by block."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qface_jax.evals.embedded import Health, diagnose
from qface_jax.evals.measures.unit import unit
from qface_jax.evals.protocols.protocol import Embedder, ImageRequest, ImageSet
from qface_jax.processes.share import Share

BLOCK = 16384  # images of a host in one request
# Smallest squared distance of unit features that rankings can use: float32 holds less
# of it than of the features themselves.
RESOLUTION = 1e-6
_WORST_FIRST = ("non_finite", "collapsed", "ok")


class UnitFeatures(NamedTuple):
    """Features of this host's part of some images.

    Attributes:
        rows: places of the images among all that were asked for.
        vectors: of unit length, float32 [k, d]; zero of an image that is unusable.
        unusable: images that could not be read or aligned, bool [k].
    """

    rows: range
    vectors: np.ndarray
    unusable: np.ndarray


def unit_features(
    embed: Embedder, images: ImageSet, wanted: Sequence[int], share: Share
) -> UnitFeatures:
    """Returns the features of this host's part of some images.

    All hosts ask equally often, for a block at a time.

    Args:
        embed: answers requests.
        images: the set.
        wanted: numbers of the images, of all hosts; at least one.
        share: this host's part: one contiguous part of `wanted`.
    """
    mine, most = share.pairs(len(wanted)), share.most_pairs(len(wanted))
    vectors, unusable = np.empty((0, 0), np.float32), np.zeros(len(mine), bool)
    for start in range(0, most, BLOCK):
        rows = mine[start : start + BLOCK]
        numbers = wanted[rows.start : rows.stop]
        embedded = embed(ImageRequest(images, numbers, min(BLOCK, most - start)))
        if not start:
            vectors = np.empty((len(mine), embedded.features.shape[1]), np.float32)
        unusable[start + embedded.unusable] = True
        with np.errstate(invalid="ignore"):  # of infinite features
            vectors[start : start + len(rows)] = unit(embedded.features)
    vectors[unusable] = 0
    return UnitFeatures(mine, vectors, unusable)


def gathered(features: UnitFeatures, share: Share) -> UnitFeatures:
    """Returns the features of all hosts' parts."""
    vectors = share.gather(features.vectors)
    return UnitFeatures(range(len(vectors)), vectors, share.gather(features.unusable))


def worst_health(parts: Sequence[UnitFeatures], share: Share) -> Health:
    """Says whether features of all hosts are finite, and not all the same.

    Args:
        parts: this host's; each is judged by itself, the worst is said.
        share: this host's part.
    """
    return worst([_health(part, share) for part in parts])


def worst(judged: Sequence[Health]) -> Health:
    """Returns the first of the worst."""
    return min(judged, key=lambda health: _WORST_FIRST.index(health.status))


def _health(part: UnitFeatures, share: Share) -> Health:
    vectors = part.vectors[~part.unusable]
    return diagnose(vectors, resolution=RESOLUTION, share=share)
