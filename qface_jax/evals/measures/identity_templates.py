"""One feature for all images of a person."""

import numpy as np

from qface_jax.evals.measures.unit import unit
from qface_jax.processes.share import ALONE, Share

_BLOCK = 8192  # rows in float64 at a time


def identity_templates(
    features: np.ndarray, ids: np.ndarray, count: int, *, share: Share = ALONE
) -> np.ndarray:
    """Returns the mean feature of each identity at unit length, float64 [count, d].

    Zero where an identity has no image, or zero features only.

    Args:
        features: of this host's images, [n, d]; of unit length where every image of a
            person is to count alike.
        ids: identity of each, 0 .. count - 1, int64 [n].
        count: identities.
        share: this host's part; the means are over the images of all hosts.
    """
    sums = np.zeros((count, features.shape[1]))
    for start in range(0, len(ids), _BLOCK):
        rows = start + np.argsort(ids[start : start + _BLOCK], kind="stable")
        present, first = np.unique(ids[rows], return_index=True)
        of_block = np.asarray(features[rows], np.float64)
        sums[present] += np.add.reduceat(of_block, first, axis=0)
    return unit(share.gather(sums[None]).sum(axis=0))
