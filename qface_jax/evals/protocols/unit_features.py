"""Unit features of many images, asked for block by block."""

from collections.abc import Iterator, Sequence
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


def blocks(
    embed: Embedder, images: ImageSet, wanted: Sequence[int], share: Share
) -> Iterator[UnitFeatures]:
    """Yields the features of this host's part of some images, the same times on all.

    Args:
        embed: answers requests.
        images: the set.
        wanted: numbers of the images, of all hosts.
        share: this host's part: one contiguous part of `wanted`.
    """
    mine, most = share.pairs(len(wanted)), share.most_pairs(len(wanted))
    for start in range(0, most, BLOCK):
        rows = mine[start : start + BLOCK]
        numbers = wanted[rows.start : rows.stop] if len(rows) else wanted[:0]
        embedded = embed(ImageRequest(images, numbers, min(BLOCK, most - start)))
        unusable = np.zeros(len(rows), bool)
        unusable[embedded.unusable] = True
        vectors = unit(embedded.features).astype(np.float32)
        vectors[unusable] = 0
        yield UnitFeatures(rows, vectors, unusable)


def all_blocks(
    embed: Embedder, images: ImageSet, wanted: Sequence[int], share: Share
) -> UnitFeatures:
    """Returns the features of this host's part of some images; as of `blocks`."""
    parts = list(blocks(embed, images, wanted, share))
    return UnitFeatures(
        share.pairs(len(wanted)),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.unusable for part in parts]),
    )


def gathered(features: UnitFeatures, share: Share) -> UnitFeatures:
    """Returns the features of all hosts' parts."""
    vectors = share.gather(features.vectors)
    return UnitFeatures(range(len(vectors)), vectors, share.gather(features.unusable))


def health(features: UnitFeatures, share: Share) -> Health:
    """Says whether the features of all hosts are finite and not all the same."""
    vectors = features.vectors[~features.unusable]
    if not len(share.gather(np.zeros(len(vectors), bool))):
        return Health("collapsed", "no image could be read: nothing can be compared")
    return diagnose(vectors, resolution=RESOLUTION, share=share)
