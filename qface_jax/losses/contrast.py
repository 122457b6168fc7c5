"""Contrastive loss of a degraded view against its original and a queue.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, eq. 2, 4,
    13, 14. The positive stands in the denominator, as in the published code.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Logit of a queue entry that does not count: exp gives exactly 0, and the difference
# of two of them is 0, not NaN.
ABSENT = -1e30


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

    The queue is compared chunk by chunk; neither pass stores [b, n].
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
    z = _unit(q)
    positive = scale * _cosine("bd,bd->b", z, lax.stop_gradient(_unit(k)))
    entries = lax.stop_gradient(queue_z)
    negatives = _log_negatives(
        z, entries, labels, queue_labels, scale, supervised_mask, chunk
    )
    return jax.nn.softplus(negatives - positive)


def _unit(features):
    """features / ||features||; a zero feature stays zero."""
    squared = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * lax.rsqrt(jnp.maximum(squared, 1e-12))


def _cosine(equation, a, b):
    dot = jnp.einsum(equation, a, b, precision=lax.Precision.HIGHEST)
    return jnp.clip(dot, -1.0, 1.0)


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


def _log_negatives(z, entries, labels, queue_labels, scale, supervised_mask, chunk):
    """logsumexp of the scaled cosines to the negatives, [b]; ABSENT without any."""
    count = entries.shape[0]
    if count == 0:
        return jnp.full(z.shape[0], ABSENT, jnp.float32)
    chunk = min(chunk, count)
    padding = -count % chunk
    entries = jnp.pad(entries, ((0, padding), (0, 0)))
    queue_labels = jnp.pad(queue_labels, (0, padding), constant_values=-1)

    def body(carry, part):
        top, total = carry
        part_entries, part_labels = part
        logits = scale * _cosine("bd,nd->bn", z, part_entries)
        counts = negative_entries(labels, part_labels, supervised_mask)
        logits = jnp.where(counts, logits, ABSENT)
        # The result does not depend on what is taken out as the largest.
        new_top = lax.stop_gradient(jnp.maximum(top, jnp.max(logits, axis=1)))
        exps = jnp.where(counts, jnp.exp(logits - new_top[:, None]), 0.0)
        return (new_top, total * jnp.exp(top - new_top) + jnp.sum(exps, axis=1)), None

    start = (jnp.full(z.shape[0], ABSENT, z.dtype), jnp.zeros(z.shape[0], z.dtype))
    parts = (
        entries.reshape(-1, chunk, entries.shape[1]),
        queue_labels.reshape(-1, chunk),
    )
    # Recomputed in the backward pass: only [b] per chunk is kept.
    (top, total), _ = lax.scan(jax.checkpoint(body), start, parts)
    some = total > 0.0
    return jnp.where(some, top + jnp.log(jnp.where(some, total, 1.0)), ABSENT)
