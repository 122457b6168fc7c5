"""The octuplet loss of a batch that is cut over all devices.

Each device mines for its own images and compares them with those of all devices, so
mining is over the global batch, and no device holds more than its own images' rows.
"""

from functools import partial

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from qface_jax.losses import mining
from qface_jax.losses import octuplet as kernel
from qface_jax.losses.mining import Hardest
from qface_jax.losses.octuplet import Triplets
from qface_jax.sharded.parallel import DATA


def _on_rows(mesh, shard):
    """Three arrays cut by rows in, arrays cut by rows out."""
    return jax.shard_map(
        shard,
        mesh=mesh,
        in_specs=(P(DATA), P(DATA), P(DATA)),
        out_specs=P(DATA),
        check_vma=False,
    )


def octuplet(
    mesh: Mesh,
    features_hr: Float[Array, "b d"],
    features_lr: Float[Array, "b d"],
    labels: Int[Array, " b"],
    *,
    terms: tuple[bool, ...] = kernel.ALL_TERMS,
    **settings,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Returns the octuplet loss of the global batch, [], and what to log about it.

    Args:
        mesh: Mesh over which the rows are cut.
        features_hr: Raw features of the images, [b, d]; b must be divisible by the
            number of devices.
        features_lr: Raw features of the same images at low resolution, [b, d].
        labels: Identity of each, int32 [b]; -1: padding, left out.
        terms: Whether hhh, hll, lhh and lll count.
        **settings: Margin, metric and so on of `losses.octuplet.octuplet_loss`.

    Returns:
        The loss; the entries of `losses.octuplet.describe`, which carry a gradient.

    Raises:
        ValueError: unknown metric, no term enabled, not four terms.
    """
    mined = triplets(mesh, features_hr, features_lr, labels, terms=terms, **settings)
    return kernel.total(mined), kernel.describe(mined, kernel.enabled(terms))


def triplets(
    mesh: Mesh,
    features_hr: Float[Array, "b d"],
    features_lr: Float[Array, "b d"],
    labels: Int[Array, " b"],
    **settings,
) -> Triplets:
    """Returns the hardest triplets of all images, as `losses.octuplet.triplets`.

    Args:
        mesh: Mesh over which the rows are cut.
        features_hr: Raw features of the images, [b, d].
        features_lr: Raw features of the same images at low resolution, [b, d].
        labels: Identity of each, int32 [b]; -1: padding.
        **settings: margin, metric, terms and normalize.
    """
    shard = partial(kernel.triplets, axis_name=DATA, **settings)
    return _on_rows(mesh, shard)(features_hr, features_lr, labels)


def hardest(
    mesh: Mesh,
    anchors: Float[Array, "b d"],
    others: Float[Array, "b d"],
    labels: Int[Array, " b"],
    *,
    metric: str = "euclidean",
    chunk: int = mining.CHUNK,
) -> Hardest:
    """Returns the hardest pairs of all anchors, as `mining.hardest`.

    Args:
        mesh: Mesh over which the rows are cut.
        anchors: Features, [b, d]; unit ones for `cosine`.
        others: Features to choose from, [b, d]: row i shows the image of anchor i.
        labels: Identity of each image, int32 [b]; -1: padding, never chosen.
        metric: One of `losses.distance.METRICS`.
        chunk: Anchors compared at a time on each device, >= 1.
    """
    shard = partial(mining.hardest, metric=metric, axis_name=DATA, chunk=chunk)
    return _on_rows(mesh, shard)(anchors, others, labels)
