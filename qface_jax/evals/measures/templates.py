"""Templates: one vector for several images of a person, summed as images stream by.

A template is the sum over its media (a photograph, or a video with its frames) of the
mean over the images of that medium. The mean is a weight of each image, so any number
of weightings is summed in one pass and no more than a block of images is in memory.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from qface_jax.evals.measures.unit import unit
from qface_jax.processes.share import Share

# Ways to fuse features of one face that are known as unit vector and length:
# pre_norm_vector_add  unit sum of the vectors in full length, and the sum's length.
# norm_weighted_avg    the same direction, and the mean length.
# average              unit sum of the unit vectors, and the mean length.
# concat               the unit vectors side by side, and the mean length.
FUSIONS = ("pre_norm_vector_add", "norm_weighted_avg", "average", "concat")


class Variant(NamedTuple):
    """How an image's feature enters its template.

    Attributes:
        norm: whether it keeps its length (N1) or is divided by it (N0).
        detector: whether it is multiplied by the detector's score (D1).
        flip: whether the feature of the mirror image is added first (F1).
    """

    norm: bool = True
    detector: bool = True
    flip: bool = True

    @property
    def name(self) -> str:
        """Short name, such as N1D1F1."""
        return f"N{self.norm:d}D{self.detector:d}F{self.flip:d}"


VARIANTS = tuple(itertools.starmap(Variant, itertools.product((True, False), repeat=3)))


class Block(NamedTuple):
    """Whole templates whose images are embedded together.

    Attributes:
        first: number of the first template.
        rows: of the images, template by template, int64 [k].
        starts: where each template begins in `rows`, and k; int64 [t + 1].
    """

    first: int
    rows: np.ndarray
    starts: np.ndarray


class Plan(NamedTuple):
    """Which images a host asks for, one request after the other.

    Attributes:
        blocks: this host's, as many as the host with most has; the last ones may be
            empty.
        most: images of the host that has most of them, for each request.
    """

    blocks: list[Block]
    most: list[int]


def medium_weights(templates: np.ndarray, media: np.ndarray) -> np.ndarray:
    """Returns 1 / (images of the same medium in the same template), float64 [n].

    Args:
        templates: number of each image's template, [n].
        media: number of its medium, [n]; of one template alone: the same number may
            stand for another medium in another template.
    """
    order = np.lexsort((media, templates))
    template, medium = np.asarray(templates)[order], np.asarray(media)[order]
    new = np.r_[True, (np.diff(template) != 0) | (np.diff(medium) != 0)]
    starts = np.flatnonzero(new[: len(order)])
    counts = np.diff(np.r_[starts, len(order)])
    weights = np.empty(len(order))
    weights[order] = np.repeat(1 / counts, counts)
    return weights


def plan(templates: np.ndarray, share: Share, *, most: int) -> Plan:
    """Cuts the images of a set into requests of whole templates.

    A template is summed on one host and in one piece, so that its vector is the same
    to the bit whatever the number of hosts.

    Args:
        templates: number of each image's template, 0 .. t - 1, each with an image, [n].
        share: this host's part.
        most: images of a request; a template with more is one of its own.
    """
    order = np.argsort(templates, kind="stable")
    counts = np.bincount(templates)
    ends = np.cumsum(counts)
    # Hosts get about as many images each, not as many templates.
    limits = len(order) * np.arange(1, share.count) / share.count
    cuts = [0, *np.searchsorted(ends, limits, side="left") + 1, len(counts)]
    cuts = np.minimum(cuts, len(counts))
    hosts = [
        list(_pieces(ends, first, last, most))
        for first, last in itertools.pairwise(map(int, cuts))
    ]
    requests = max(map(len, hosts))
    bounds = np.r_[0, ends]
    nothing = (len(counts), len(counts))
    sizes = [
        [int(bounds[last] - bounds[first]) for first, last in pieces]
        for pieces in hosts
    ]
    mine = hosts[share.index]
    return Plan(
        [
            Block(
                first,
                order[bounds[first] : bounds[last]],
                bounds[first : last + 1] - bounds[first],
            )
            for first, last in mine + [nothing] * (requests - len(mine))
        ],
        [max(host[k] for host in sizes if k < len(host)) for k in range(requests)],
    )


def _pieces(
    ends: np.ndarray, first: int, last: int, most: int
) -> Iterator[tuple[int, int]]:
    """Yields runs of templates `first` to `last` that have at most `most` images."""
    while first < last:
        before = int(ends[first - 1]) if first else 0
        fit = int(np.searchsorted(ends, before + most, side="right"))
        stop = min(max(fit, first + 1), last)
        yield first, stop
        first = stop


def pool(
    plain: np.ndarray,
    mirrored: np.ndarray | None,
    starts: np.ndarray,
    variants: Sequence[Variant],
    *,
    weights: np.ndarray,
    detector: np.ndarray,
) -> np.ndarray:
    """Returns the templates of some images under several variants, not normalised.

    Args:
        plain: raw features of the images, template by template, [k, d]; zero rows add
            nothing.
        mirrored: of their mirror images, [k, d]; None: no variant may ask for them.
        starts: where each template begins, and k; [t + 1].
        variants: what is summed.
        weights: of `medium_weights`, [k].
        detector: score of each face, [k].

    Returns:
        float64 [variants, t, d].
    """
    t, d = len(starts) - 1, plain.shape[1]
    sums = np.empty((len(variants), t, d))
    for flip in {variant.flip for variant in variants}:
        if flip and mirrored is None:
            raise ValueError("a variant adds the mirror image's feature, got None")
        features = np.asarray(plain, np.float64)
        if flip:
            features = features + mirrored
        chosen = [i for i, variant in enumerate(variants) if variant.flip == flip]
        rows = _row_weights(features, [variants[i] for i in chosen], weights, detector)
        part = np.empty((len(chosen), t, d))
        for k, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
            np.matmul(rows[:, start:stop], features[start:stop], out=part[:, k])
        sums[chosen] = part
    return sums


def _row_weights(
    features: np.ndarray,
    variants: Sequence[Variant],
    weights: np.ndarray,
    detector: np.ndarray,
) -> np.ndarray:
    """Returns what each row is multiplied by under each variant, [variants, k]."""
    norms = np.linalg.norm(features, axis=1)
    inverse = 1 / np.where(norms == 0, 1, norms)
    rows = np.tile(np.asarray(weights, np.float64), (len(variants), 1))
    for row, variant in zip(rows, variants, strict=True):
        if variant.detector:
            row *= detector
        if not variant.norm:
            row *= inverse
    return rows


def fuse(
    units: np.ndarray, norms: np.ndarray, mode: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns fused features and their lengths, as AdaFace does with mirror images.

    Args:
        units: unit vectors of each view, [views, n, d].
        norms: their lengths before, [views, n, 1].
        mode: one of FUSIONS.

    Returns:
        [n, d], of unit length, but [n, views * d] of "concat"; lengths [n, 1].
    """
    units, norms = np.asarray(units, np.float64), np.asarray(norms, np.float64)
    if mode not in FUSIONS:
        raise ValueError(f"mode: got {mode!r}, must be one of {', '.join(FUSIONS)}")
    if mode == "concat":
        return np.concatenate(list(units), axis=1), norms.mean(axis=0)
    if mode == "average":
        return unit(units.sum(axis=0)), norms.mean(axis=0)
    total = (units * norms).sum(axis=0)
    if mode == "norm_weighted_avg":
        return unit(total), norms.mean(axis=0)
    return unit(total), np.linalg.norm(total, axis=1, keepdims=True)
