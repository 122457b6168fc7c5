"""Contrastive loss of a degraded view against its original and a queue.

The queue is compared chunk by chunk. Only the query has a gradient, so it is summed up
in the same pass as the loss: nothing of size [b, n] exists, and the queue is read once.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, eq. 2, 4,
    13, 14. The positive stands in the denominator, as in the published code.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from qface_jax.losses.vectors import dot, unit

# Logit of a queue entry that does not count: exp gives exactly 0, and the difference
# of two of them is 0, not NaN.
ABSENT = -1e30

Chunk = tuple[Float[Array, "m d"], Int[Array, " m"]]


class NegativeSum(NamedTuple):
    """Running sums over the negatives of each row, chunk by chunk.

    Attributes:
        top: Largest logit so far, [b].
        total: Sum of e^{logit - top}, [b].
        pull: Sum of e^{logit - top} entry, over the cosines within [-1, 1], [b, d].
        cosines: Sum of the cosines, [b].
        count: Number of negatives, [b].
    """

    top: Float[Array, " b"]
    total: Float[Array, " b"]
    pull: Float[Array, "b d"]
    cosines: Float[Array, " b"]
    count: Float[Array, " b"]


class Negatives(NamedTuple):
    """The negatives of each row, summed up.

    Attributes:
        log_sum: logsumexp of the scaled cosines, [b]; ABSENT without any.
        slope: Its gradient with respect to the unit query, [b, d].
        mean_cosine: Mean of the cosines, [b]; 0 without any.
    """

    log_sum: Float[Array, " b"]
    slope: Float[Array, "b d"]
    mean_cosine: Float[Array, " b"]


def contrastive_loss(
    q: Float[Array, "b d"],
    k: Float[Array, "b d"],
    queue_z: Float[Array, "n d"],
    labels: Int[Array, " b"],
    queue_labels: Int[Array, " n"],
    *,
    scale: float,
    supervised_mask: bool = True,
    chunk: int = 8192,
) -> Float[Array, " b"]:
    """Returns the loss that draws a degraded view to its original, each [b].

    L = -log( e^{s cos(q, k)} / (e^{s cos(q, k)} + sum_j e^{s cos(q, queue_j)}) ), the
    sum over the entries j of other identities (Supervised Contrastive Mask).

    # Differs from the published code, which lets an entry of the same identity stay
    # with a cosine of 0 instead of taking it out.

    Args:
        q: Raw features of the degraded views, [b, d].
        k: Raw features of the originals, [b, d]; no gradient reaches them.
        queue_z: Entries, unit features or close to it, [n, d], n may be 0; they are
            not normalised again, the cosine with them is clipped to [-1, 1]. No
            gradient reaches them.
        labels: Identity of each row, int32 [b].
        queue_labels: Identity of each entry, int32 [n]; -1: empty, never counts.
        scale: s, > 0.
        supervised_mask: False: entries of the own identity are negatives too.
        chunk: Entries compared at a time, >= 1.

    Returns:
        The loss of each row, [b] float32, >= 0; 0 where no negative counts.
    """
    count = queue_z.shape[0]
    chunk = max(min(chunk, count), 1)
    padding = -count % chunk
    entries = jnp.pad(queue_z, ((0, padding), (0, 0)))
    entry_labels = jnp.pad(queue_labels, (0, padding), constant_values=-1)

    def chunk_at(index):
        start = index * chunk
        return (
            lax.dynamic_slice_in_dim(entries, start, chunk),
            lax.dynamic_slice_in_dim(entry_labels, start, chunk),
        )

    z = unit(q)
    sums = sum_negatives(
        z,
        labels,
        chunk_at,
        (count + padding) // chunk,
        scale=scale,
        supervised_mask=supervised_mask,
    )
    negatives = finish(sums, scale)
    return loss_against(z, k, negatives.log_sum, negatives.slope, scale=scale)


def loss_against(
    z: Float[Array, "b d"],
    k: Float[Array, "b d"],
    log_sum: Float[Array, " b"],
    slope: Float[Array, "b d"],
    *,
    scale: float,
) -> Float[Array, " b"]:
    """Returns the contrastive loss of each row, [b], from its summed negatives.

    L = softplus(log_sum - s cos(q, k))

    Args:
        z: Unit queries, [b, d].
        k: Raw features of the originals, [b, d]; no gradient reaches them.
        log_sum: As in `Negatives`, [b].
        slope: As in `Negatives`, [b, d]; the gradient of `log_sum`.
        scale: s.
    """
    return jax.nn.softplus(_attached(z, log_sum, slope) - scale * positive_cosine(z, k))


def positive_cosine(
    z: Float[Array, "b d"], k: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """Returns the cosine of unit queries with their originals, [b], none to `k`."""
    other = lax.stop_gradient(unit(k))
    return jnp.clip(dot("bd,bd->b", z, other), -1.0, 1.0)


@jax.custom_vjp
def _attached(z, value, slope):
    """`value` [b], whose gradient with respect to `z` [b, d] is `slope` [b, d]."""
    del z, slope
    return value


def _attached_forward(z, value, slope):
    del z
    return value, slope


def _attached_backward(slope, grad):
    return grad[:, None] * slope, None, None


_attached.defvjp(_attached_forward, _attached_backward)


def negative_entries(
    labels: Int[Array, " b"], queue_labels: Int[Array, " n"], supervised_mask: bool
) -> Bool[Array, "b n"]:
    """Returns which entries are negatives of which rows, [b, n].

    Args:
        labels: Identity of each row, [b].
        queue_labels: Identity of each entry, [n]; -1: empty.
        supervised_mask: Whether entries of the own identity are left out.
    """
    filled = jnp.broadcast_to(queue_labels >= 0, (labels.shape[0], len(queue_labels)))
    if not supervised_mask:
        return filled
    return filled & (labels[:, None] != queue_labels[None, :])


def sum_negatives(
    z: Float[Array, "b d"],
    labels: Int[Array, " b"],
    chunk_at: Callable[[Int[Array, ""]], Chunk],
    chunks: int,
    *,
    scale: float,
    supervised_mask: bool,
) -> NegativeSum:
    """Returns the sums over the negatives of each row, without gradient.

    Args:
        z: Unit queries, [b, d].
        labels: Identity of each, [b].
        chunk_at: Index of a chunk -> its entries [m, d] and their labels [m]; -1: no
            entry.
        chunks: Number of chunks, >= 0.
        scale: s.
        supervised_mask: Whether entries of the own identity are left out.
    """
    z = lax.stop_gradient(z)

    def body(index, sums):
        entries, entry_labels = lax.stop_gradient(chunk_at(index))
        cos = dot("bd,nd->bn", z, entries)
        inside = jnp.abs(cos) <= 1.0
        cos = jnp.clip(cos, -1.0, 1.0)
        counts = negative_entries(labels, entry_labels, supervised_mask)
        logits = jnp.where(counts, scale * cos, ABSENT)
        top = jnp.maximum(sums.top, jnp.max(logits, axis=1))
        shrink = jnp.exp(sums.top - top)
        exps = jnp.where(counts, jnp.exp(logits - top[:, None]), 0.0)
        # A clipped cosine does not move with the query.
        moving = jnp.where(inside, exps, 0.0)
        return NegativeSum(
            top,
            sums.total * shrink + jnp.sum(exps, axis=1),
            sums.pull * shrink[:, None] + dot("bn,nd->bd", moving, entries),
            sums.cosines + jnp.sum(jnp.where(counts, cos, 0.0), axis=1),
            sums.count + jnp.sum(counts, axis=1, dtype=z.dtype),
        )

    nothing = jnp.zeros(z.shape[0], z.dtype)
    start = NegativeSum(
        jnp.full_like(nothing, ABSENT), nothing, jnp.zeros_like(z), nothing, nothing
    )
    return lax.fori_loop(0, chunks, body, start) if chunks else start


def finish(sums: NegativeSum, scale: float) -> Negatives:
    """Returns the negatives from their sums.

    Args:
        sums: Over all chunks.
        scale: s.
    """
    some = sums.total > 0.0
    total = jnp.where(some, sums.total, 1.0)
    return Negatives(
        log_sum=jnp.where(some, sums.top + jnp.log(total), ABSENT),
        slope=scale * sums.pull / total[:, None],
        mean_cosine=sums.cosines / jnp.maximum(sums.count, 1.0),
    )


def joined(sums: NegativeSum, axis_name: str) -> NegativeSum:
    """Returns the sums over the entries of all devices of a mapped axis.

    Args:
        sums: Over this device's entries, for the same rows on all devices.
        axis_name: Name of the axis.
    """
    top = lax.pmax(sums.top, axis_name)
    shrink = jnp.exp(sums.top - top)
    return NegativeSum(
        top,
        *lax.psum(
            (
                sums.total * shrink,
                sums.pull * shrink[:, None],
                sums.cosines,
                sums.count,
            ),
            axis_name,
        ),
    )
