"""Features of images, and whether they can be compared at all."""

import dataclasses

import numpy as np

from qface_jax.errors import counted
from qface_jax.evals.measures.unit import unit
from qface_jax.processes.share import ALONE, Share

_BLOCK = 8192  # rows in float64 at a time
_NAMED = 5  # indices of bad images named in a message


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Features of a list of images, in its order.

    Attributes:
        features: fused over image and mirror image, not normalised, float32 [n, d].
        scores: quality scores by name, of the feature of the image itself without its
            mirror image, float64 [n] each; "norm", its L2 norm, is always there.
        unusable: places of the images that could not be read or aligned, ascending
            int64 [k]; their features are zero.
        plain: raw features of the images alone, float32 [n, d]; None: not kept.
        mirrored: raw features of the mirror images alone, float32 [n, d]; None
            without flip.
    """

    features: np.ndarray
    scores: dict[str, np.ndarray]
    unusable: np.ndarray = dataclasses.field(
        default_factory=lambda: np.empty(0, np.int64)
    )
    plain: np.ndarray | None = None
    mirrored: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Health:
    """Whether features can be compared at all.

    Attributes:
        status: "ok", "collapsed" or "non_finite".
        message: one sentence saying what is wrong; empty when ok.
    """

    status: str
    message: str


OK = Health("ok", "")


def diagnose(
    features: np.ndarray, *, resolution: float, share: Share = ALONE
) -> Health:
    """Says whether features are finite and not (almost) all the same.

    Collapsed means that 95 % of the unit embeddings lie so close to their mean that
    any two of them are nearer than the verification threshold can resolve: then the
    accuracy is a constant decision's, 50 % on a balanced list.

    Args:
        features: raw, [n, d], of this host.
        resolution: smallest squared Euclidean distance that can be resolved.
        share: this host's part; the answer is about the images of all hosts.
    """
    blocks = range(0, len(features), _BLOCK)
    finite = share.gather(np.isfinite(features).all(axis=1))
    count = len(finite)
    if not count:
        return Health("collapsed", "no image could be read: nothing can be compared")
    bad = np.flatnonzero(~finite)
    if len(bad):
        named = ", ".join(map(str, bad[:_NAMED])) + (
            ", ..." if len(bad) > _NAMED else ""
        )
        return Health(
            "non_finite",
            f"NaN or infinite features of {len(bad):,} of {counted(count, 'image')} "
            f"(images {named}): nothing can be compared",
        )
    total = np.zeros(features.shape[1])
    for b in blocks:
        total += unit(features[b : b + _BLOCK]).sum(axis=0)
    mean = share.gather(total[None]).sum(axis=0) / count
    offsets = np.empty(len(features))
    for b in blocks:
        block = slice(b, b + _BLOCK)
        offsets[block] = np.square(unit(features[block]) - mean).sum(axis=1)
    offsets = share.gather(offsets)
    # Two points within radius r of the mean are at most 2 r apart.
    reach = 4 * float(np.quantile(offsets, 0.95))
    if reach >= resolution:
        return OK
    return Health(
        "collapsed",
        "the embeddings are (almost) the same for all images: 95 % of them lie "
        f"within a squared distance of {reach:.1e} of each other, the threshold "
        f"resolves {resolution:g}; the accuracy is that of a constant answer",
    )
