"""The hardest positive and negative of each anchor, over the images of all devices.

Every device mines for its own anchors alone and holds some of their rows at a time. The
choice has no gradient; a loss takes the distance of the pairs that were chosen.

References:
    Hermans, Beyer, Leibe. In Defense of the Triplet Loss for Person
    Re-Identification. 2017: hard mining within the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from qface_jax.losses import distance

# Anchors compared at a time: bounds the rows that are held, [CHUNK, n]. Fewer are
# slower (`benchmarks/octuplet_mining.py`), more gain nothing.
CHUNK = 128


class Hardest(NamedTuple):
    """Which images are the hardest of each anchor.

    Attributes:
        positive: Row of the farthest image of the same identity, [a].
        negative: Row of the nearest image of another identity, [a].
        has_positive: Whether there is one at all, [a]; if not, `positive` is 0.
        has_negative: Whether there is one at all, [a]; if not, `negative` is 0.
    """

    positive: Int[Array, " a"]
    negative: Int[Array, " a"]
    has_positive: Bool[Array, " a"]
    has_negative: Bool[Array, " a"]


def gather(rows: Array, axis_name: str | None) -> Array:
    """Returns the rows of all devices of a mapped axis; `rows` without an axis.

    The gradient of a gathered row goes back to the device that it came from, summed
    over all devices that used it.
    """
    return rows if axis_name is None else lax.all_gather(rows, axis_name, tiled=True)


def first_row(rows: Array, axis_name: str | None) -> int | Int[Array, ""]:
    """Returns the index of this device's first row among the gathered ones."""
    return 0 if axis_name is None else lax.axis_index(axis_name) * rows.shape[0]


def hardest(
    anchors: Float[Array, "a d"],
    others: Float[Array, "a d"],
    labels: Int[Array, " a"],
    *,
    metric: str = "euclidean",
    axis_name: str | None = None,
    chunk: int = CHUNK,
) -> Hardest:
    """Returns the hardest pairs of each anchor among the others of all devices.

    Row i of `anchors` and of `others` show the same image, or its two views; it is
    neither positive nor negative of itself.

    Args:
        anchors: Features of this device, [a, d]; unit ones for `cosine`.
        others: Features to choose from, of this device, [a, d].
        labels: Identity of each image, int32 [a]; -1: padding, never chosen.
        metric: One of `losses.distance.METRICS`.
        axis_name: Mapped axis over which `others` are cut; None: they are whole.
        chunk: Anchors compared at a time, >= 1.

    Returns:
        Rows of the gathered `others`, without gradient.

    Raises:
        ValueError: unknown metric.
    """
    return hardest_among(
        anchors,
        labels,
        gather(others, axis_name),
        gather(labels, axis_name),
        first=first_row(labels, axis_name),
        metric=metric,
        chunk=chunk,
    )


def hardest_among(
    anchors: Float[Array, "a d"],
    labels: Int[Array, " a"],
    others: Float[Array, "n d"],
    other_labels: Int[Array, " n"],
    *,
    first: int | Int[Array, ""],
    metric: str,
    chunk: int = CHUNK,
) -> Hardest:
    """Returns the hardest pairs of anchors among images that are already gathered.

    Args:
        anchors: Features, [a, d]; unit ones for `cosine`.
        labels: Identity of each anchor, int32 [a].
        others: Features to choose from, [n, d].
        other_labels: Identity of each, int32 [n]; -1: padding, never chosen.
        first: Row of `others` that shows the same image as anchor 0.
        metric: One of `losses.distance.METRICS`.
        chunk: Anchors compared at a time, >= 1.

    Returns:
        Rows of `others`, without gradient.

    Raises:
        ValueError: unknown metric.
    """
    anchors, others = lax.stop_gradient((anchors, others))
    places = first + jnp.arange(labels.shape[0], dtype=jnp.int32)
    rows = jnp.arange(other_labels.shape[0], dtype=jnp.int32)

    def of_anchor(anchor):
        feature, label, place = anchor
        rank = distance.ranking(feature[None, :], others, metric=metric)[0]
        same = other_labels == label
        positives = same & (rows != place) & (other_labels >= 0)
        negatives = ~same & (other_labels >= 0)
        return Hardest(
            _first_largest(rank, positives, rows),
            _first_largest(-rank, negatives, rows),
            jnp.any(positives),
            jnp.any(negatives),
        )

    return lax.map(of_anchor, (anchors, labels, places), batch_size=chunk)


def _first_largest(values, counts, rows):
    """The first row with the largest value among those that count; 0 without any."""
    values = jnp.where(counts, values, -jnp.inf)
    # Two plain reductions: XLA's argmax is one that a CPU does not vectorise.
    is_largest = values == jnp.max(values)
    return jnp.min(jnp.where(is_largest, rows, rows.shape[0] - 1))


def pmapped(
    *, metric: str = "euclidean", chunk: int = CHUNK
) -> Callable[[Array, Array, Array], Hardest]:
    """Returns `hardest` mapped over a leading axis of devices.

    For notebooks and analysis of features that lie one block a device; training runs
    the same kernel under `shard_map` (`qface_jax.sharded.octuplet.hardest`), with the
    same choice.

    Args:
        metric: One of `losses.distance.METRICS`.
        chunk: Anchors compared at a time, >= 1.

    Returns:
        (anchors [devices, a, d], others [devices, a, d], labels [devices, a]) ->
        Hardest of arrays [devices, a], whose rows count over all devices: row j of
        device i is i a + j.

    >>> features = jnp.array([[[0.0], [1.0], [5.0]]])  # one device, three images
    >>> labels = jnp.array([[7, 7, 8]])
    >>> chosen = pmapped(metric="euclidean")(features, features, labels)
    >>> chosen.negative.tolist(), chosen.has_positive.tolist()
    ([[2, 2, 1]], [[True, True, False]])
    """
    kernel = partial(hardest, metric=metric, axis_name="data", chunk=chunk)
    return jax.pmap(kernel, axis_name="data")
