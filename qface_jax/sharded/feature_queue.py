"""A queue of features of earlier steps, brought up to date by their class centres.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, the
    proxy-updated real-time queue.
"""

import flax.struct
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

EMPTY = -1  # label of a slot that nothing was put in


@flax.struct.dataclass
class FeatureQueue:
    """First in, first out; slots that are filled and overwritten in a ring.

    Attributes:
        z: Features as they were put in, [n, d]; a row for each slot, and perhaps more
            that nothing is ever put in.
        labels: Identity of each, int32 [n]; -1: empty.
        proxies: Raw class centre of each at that time, [n, d]; None in a queue that is
            not brought up to date.
        cursor: Slot that is written next, int32 [].
    """

    z: Float[Array, "n d"]
    labels: Int[Array, " n"]
    proxies: Float[Array, "n d"] | None
    cursor: Int[Array, ""]


def init(rows: int, dim: int, *, with_proxies: bool) -> FeatureQueue:
    """Returns an empty queue.

    Args:
        rows: n, slots; in the paper the number of identities.
        dim: d, length of a feature.
        with_proxies: Whether class centres are kept beside the features.
    """
    return FeatureQueue(
        z=jnp.zeros((rows, dim), jnp.float32),
        labels=jnp.full(rows, EMPTY, jnp.int32),
        proxies=jnp.zeros((rows, dim), jnp.float32) if with_proxies else None,
        cursor=jnp.int32(0),
    )


def slots(
    size: int, cursor: Int[Array, ""], labels: Int[Array, " b"]
) -> tuple[Int[Array, " b"], Int[Array, ""]]:
    """Returns the slot of each new row, [b], and the next cursor.

    A row without a label gets no slot, nor does one that a later row of the same batch
    would overwrite: their slot is -1.

    Args:
        size: Number of slots.
        cursor: Slot that is written next.
        labels: Identity of each row, int32 [b]; -1: none.
    """
    enters = labels >= 0
    rank = jnp.cumsum(enters, dtype=jnp.int32) - 1
    count = jnp.sum(enters, dtype=jnp.int32)
    stays = enters & (rank >= count - size)
    slot = jnp.where(stays, (cursor + rank) % size, -1)
    return slot, (cursor + count) % size


def push(
    queue: FeatureQueue,
    z: Float[Array, "b d"],
    labels: Int[Array, " b"],
    proxies: Float[Array, "b d"] | None = None,
    *,
    size: int | None = None,
    first: int | Int[Array, ""] = 0,
) -> FeatureQueue:
    """Returns the queue after a batch went in, the oldest entries overwritten.

    Args:
        queue: Queue so far, or the rows of it that one device holds.
        z: Unit features, [b, d]; no gradient is kept. b may exceed the number of
            slots: the last ones stay.
        labels: Identity of each, int32 [b]; -1: the row does not enter.
        proxies: Raw class centre of each now, [b, d]; where the queue has proxies.
        size: Number of slots of the whole queue; as many as `queue` has rows when None.
        first: Slot of the first row of `queue`.

    Raises:
        ValueError: proxies are missing, or given to a queue without.
    """
    if (proxies is None) != (queue.proxies is None):
        raise ValueError(
            "proxies: "
            + ("missing" if proxies is None else "given, but the queue keeps none")
        )
    rows = queue.labels.shape[0]
    slot, cursor = slots(rows if size is None else size, queue.cursor, labels)
    row = slot - first
    # A row behind the end is dropped; one before the start would count from the end.
    row = jnp.where((slot >= 0) & (row >= 0), row, rows)

    def put(array, new):
        return array.at[row].set(lax.stop_gradient(new), mode="drop")

    return FeatureQueue(
        z=put(queue.z, z),
        labels=put(queue.labels, labels),
        proxies=None if proxies is None else put(queue.proxies, proxies),
        cursor=cursor,
    )


def proxy_view(
    z: Float[Array, "n d"],
    proxies_then: Float[Array, "n d"],
    proxies_now: Float[Array, "n d"],
) -> Float[Array, "n d"]:
    """Returns features moved as their class centres have moved, [n, d].

    view = z + (||z|| / ||proxy_then||) (proxy_now - proxy_then), not normalised again

    Args:
        z: Features as they were put in, [n, d].
        proxies_then: Raw class centre of each at that time, [n, d]; a zero row (an
            empty slot) moves nothing.
        proxies_now: Raw class centre of each now, [n, d].
    """
    length, then = (jnp.linalg.norm(x, axis=1) for x in (z, proxies_then))
    ratio = jnp.where(then > 0.0, length / jnp.where(then > 0.0, then, 1.0), 0.0)
    return z + ratio[:, None] * (proxies_now - proxies_then)


def view(
    queue: FeatureQueue, proxies_now: Float[Array, "n d"] | None = None
) -> Float[Array, "n d"]:
    """Returns the entries as they would be now, [n, d], without gradient.

    Args:
        queue: Its entries, [n, d], are as they were when they entered.
        proxies_now: Raw class centre of each slot's identity now, [n, d]; where the
            queue has proxies. Rows of empty slots do not matter.

    Raises:
        ValueError: centres are missing, or given to a queue without proxies.
    """
    if (proxies_now is None) != (queue.proxies is None):
        raise ValueError(
            "proxies_now: "
            + ("missing" if proxies_now is None else "given, but the queue keeps none")
        )
    if proxies_now is None:
        return lax.stop_gradient(queue.z)
    return lax.stop_gradient(proxy_view(queue.z, queue.proxies, proxies_now))
