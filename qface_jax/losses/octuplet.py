"""Octuplet loss: four triplet losses between high- and low-resolution views.

References:
    Knoche, Elkadeem, Hoermann, Rigoll. Octuplet Loss: Make Face Recognition Robust to
    Image Resolution. FG 2023, eq. 5-11.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from qface_jax.losses import distance, mining
from qface_jax.losses.vectors import unit

# View of anchor, positive and negative of each term: high or low resolution.
TERMS = ("hhh", "hll", "lhh", "lll")
ALL_TERMS = (True, True, True, True)


class Triplets(NamedTuple):
    """The hardest triplet of each image in each of the t enabled terms.

    Attributes:
        losses: max(0, positive - negative + margin), [b, t]; 0 where the image is
            padding or has no positive or no negative.
        positive: Distance to the hardest positive, [b, t]; no meaning without one.
        negative: Distance to the hardest negative, [b, t]; no meaning without one.
        has_positive: Whether an image of the batch is of the same identity, [b].
        has_negative: Whether an image of the batch is of another identity, [b].
        valid: Whether the row is an image at all, [b].
    """

    losses: Float[Array, "b t"]
    positive: Float[Array, "b t"]
    negative: Float[Array, "b t"]
    has_positive: Bool[Array, " b"]
    has_negative: Bool[Array, " b"]
    valid: Bool[Array, " b"]


def octuplet_loss(
    features_hr: Float[Array, "b d"],
    features_lr: Float[Array, "b d"],
    labels: Int[Array, " b"],
    *,
    margin: float,
    metric: str = "euclidean",
    terms: tuple[bool, ...] = ALL_TERMS,
    normalize: bool = False,
) -> Float[Array, ""]:
    """Returns the sum of the enabled terms (eq. 11), [].

    A term is the mean over the images of max(0, d_pos - d_neg + margin), d_pos the
    largest distance to another image of the identity, d_neg the smallest to an image of
    another one. An image without either counts as 0.

    # Differs from the published PyTorch code, whose Euclidean metrics have no gradient.

    Args:
        features_hr: Raw features of the images, [b, d].
        features_lr: Raw features of the same images at low resolution, [b, d].
        labels: Identity of each, int32 [b]; -1: padding, left out.
        margin: m, >= 0, in units of the distance; 25 in the paper for raw features.
        metric: One of `distance.METRICS`.
        terms: Whether hhh, hll, lhh and lll count.
        normalize: Whether features are made unit first; `cosine` always does.

    Raises:
        ValueError: unknown metric, no term enabled, not four terms.
    """
    mined = triplets(
        features_hr,
        features_lr,
        labels,
        margin=margin,
        metric=metric,
        terms=terms,
        normalize=normalize,
    )
    return total(mined)


def enabled(terms: tuple[bool, ...]) -> tuple[str, ...]:
    """Returns the names of the enabled terms.

    Raises:
        ValueError: none is enabled, or there are not four.

    >>> enabled((True, False, False, True))
    ('hhh', 'lll')
    """
    if len(terms) != len(TERMS) or not any(terms):
        raise ValueError(
            f"terms: got {tuple(terms)}, must say of each of {', '.join(TERMS)} "
            "whether it counts, and one at least must"
        )
    return tuple(name for name, on in zip(TERMS, terms, strict=True) if on)


def triplets(
    features_hr: Float[Array, "b d"],
    features_lr: Float[Array, "b d"],
    labels: Int[Array, " b"],
    *,
    margin: float,
    metric: str = "euclidean",
    terms: tuple[bool, ...] = ALL_TERMS,
    normalize: bool = False,
    axis_name: str | None = None,
) -> Triplets:
    """Returns the hardest triplets of this device's images, over those of all devices.

    Args:
        features_hr: Raw features of this device's images, [b, d].
        features_lr: Raw features of the same images at low resolution, [b, d].
        labels: Identity of each, int32 [b]; -1: padding.
        margin: m, >= 0.
        metric: One of `distance.METRICS`.
        terms: Whether hhh, hll, lhh and lll are taken.
        normalize: Whether features are made unit first; `cosine` always does.
        axis_name: Mapped axis over which the images are sharded; None: all are here.

    Returns:
        Triplets of the enabled terms, in the order of `TERMS`; gradients reach all
        three images of a triplet, on whichever device they are.

    Raises:
        ValueError: unknown metric, no term enabled, not four terms.
    """
    names = enabled(terms)
    distance.check_metric(metric)
    local = {"h": features_hr, "l": features_lr}
    if normalize or metric == "cosine":
        local = {view: unit(features) for view, features in local.items()}
    # Each view is gathered once, not once a term.
    needed = {name[1] for name in names}
    gathered = {view: mining.gather(local[view], axis_name) for view in sorted(needed)}
    all_labels = mining.gather(labels, axis_name)
    first = mining.first_row(labels, axis_name)
    valid = labels >= 0
    columns = []
    for name in names:
        anchors, others = local[name[0]], gathered[name[1]]
        hardest = mining.hardest_among(
            anchors, labels, others, all_labels, first=first, metric=metric
        )
        positive = distance.paired(anchors, others[hardest.positive], metric=metric)
        negative = distance.paired(anchors, others[hardest.negative], metric=metric)
        counts = valid & hardest.has_positive & hardest.has_negative
        hinge = jnp.maximum(positive - negative + margin, 0.0)
        columns.append((jnp.where(counts, hinge, 0.0), positive, negative))
    losses, positive, negative = (
        jnp.stack(c, axis=1) for c in zip(*columns, strict=True)
    )
    # Who has a positive and a negative depends on labels alone: the same in all terms.
    return Triplets(
        losses, positive, negative, hardest.has_positive, hardest.has_negative, valid
    )


def total(mined: Triplets) -> Float[Array, ""]:
    """Returns the octuplet loss from the triplets of all images, []."""
    return jnp.sum(mined.losses) / _count(mined.valid)


def describe(mined: Triplets, names: tuple[str, ...]) -> dict[str, Float[Array, ""]]:
    """Returns what to log about the triplets of all images.

    Args:
        mined: Triplets of all images.
        names: Names of the t terms, as `enabled` returns them.

    Returns:
        `loss_*` the terms, `active_*` the share of the images with a loss > 0,
        `distance_positive_*` and `distance_negative_*` means of the hardest distances
        over the images that have one; `without_positive`, `without_negative` the
        shares of the images that do not.
    """
    count = _count(mined.valid)
    positives = mined.valid & mined.has_positive
    negatives = mined.valid & mined.has_negative
    metrics = {}
    for column, name in enumerate(names):
        losses = mined.losses[:, column]
        metrics[f"loss_{name}"] = jnp.sum(losses) / count
        metrics[f"active_{name}"] = jnp.sum(losses > 0.0, dtype=count.dtype) / count
        for kind, distances, having in (
            ("positive", mined.positive, positives),
            ("negative", mined.negative, negatives),
        ):
            sums = jnp.sum(jnp.where(having, distances[:, column], 0.0))
            metrics[f"distance_{kind}_{name}"] = sums / _count(having)
    for kind, having in (("positive", positives), ("negative", negatives)):
        lacking = jnp.sum(mined.valid & ~having, dtype=count.dtype)
        metrics[f"without_{kind}"] = lacking / count
    return metrics


def _count(rows):
    """How many rows are True, at least 1, so that an empty mean is 0."""
    return jnp.maximum(jnp.sum(rows, dtype=jnp.float32), 1.0)
