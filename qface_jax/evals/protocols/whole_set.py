"""The features of a small set, all of them on every host."""

import numpy as np

from qface_jax.evals.protocols.protocol import Embedder, ImageRequest, ImageSet
from qface_jax.processes.share import Share


def embed_whole(
    images: ImageSet, embed: Embedder, share: Share
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds every image once.

    For sets of which every host can hold all features: ten thousand images are 20 MB.

    Args:
        images: the set.
        embed: answers a request.
        share: this host's part.

    Returns:
        features, raw, of all hosts, float32 [n, d]; those of unusable images are 0.
        Numbers of the unusable images, ascending, int64 [k].
    """
    mine = share.pairs(len(images))
    embedded = embed(ImageRequest(images, mine, share.most_pairs(len(images))))
    unusable = np.zeros(len(mine), bool)
    unusable[embedded.unusable] = True
    return share.gather(embedded.features), np.flatnonzero(share.gather(unusable))
