"""The feature queue cut over all devices: filling it, comparing a batch with it.

Slot j of the ring is row j of the queue's arrays, whatever the number of devices, so a
checkpoint fits any number. Features of the batch are gathered (small); entries stay
where they are. A proxy-updated queue needs the present class centre of each entry,
which any device may hold: these rows are exchanged part by part, once a step.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from qface_jax.losses import contrast
from qface_jax.losses.contrast import Negatives
from qface_jax.sharded import feature_queue
from qface_jax.sharded.bfloat16_rows import as_words, widened
from qface_jax.sharded.feature_queue import FeatureQueue
from qface_jax.sharded.parallel import DATA
from qface_jax.sharded.streamed_logits import (
    chunk_bounds,
    chunk_count_and_size,
    gather,
    slice_rows,
)

# Rows are cut over the devices; the cursor is whole everywhere.
PLACES = FeatureQueue(z=P(DATA), labels=P(DATA), proxies=P(DATA), cursor=P())


class QueueSpec(NamedTuple):
    """What is fixed at compile time.

    Attributes:
        size: Slots; rows from here on are padding and stay empty.
        scale: s of the contrastive loss.
        supervised_mask: Whether entries of the own identity are left out.
        chunk: Most slots that a device compares at a time.
        mesh: Mesh over which features, queue and class centres are cut.
    """

    size: int
    scale: float
    supervised_mask: bool
    chunk: int
    mesh: Mesh


def _on_mesh(spec, shard, in_specs, out_specs):
    return jax.shard_map(
        shard, mesh=spec.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def _own_rows(centres, labels):
    """This device's centres of those labels in float32, zeros for all others."""
    local = labels - lax.axis_index(DATA) * centres.shape[0]
    is_local = (labels >= 0) & (local >= 0) & (local < centres.shape[0])
    rows = widened(as_words(centres)[jnp.where(is_local, local, 0)])
    return jnp.where(is_local[:, None], rows, 0.0)


def push(
    spec: QueueSpec,
    queue: FeatureQueue,
    z: Float[Array, "b d"],
    labels: Int[Array, " b"],
    centres: Float[Array, "c d"],
) -> FeatureQueue:
    """Returns the queue after a batch went in, as `feature_queue.push`.

    Args:
        spec: Size and mesh.
        queue: Queue so far.
        z: Unit features, [b, d]; b must be divisible by the number of devices.
        labels: Identity of each, int32 [b]; -1: the row does not enter.
        centres: Raw class centres now, [c, d]; kept beside the features where the
            queue has proxies.
    """

    def shard(queue, z_rows, label_rows, centres):
        z, labels = gather(z_rows), gather(label_rows)
        proxies = None
        if queue.proxies is not None:
            proxies = lax.psum(_own_rows(centres, labels), DATA)
        first = lax.axis_index(DATA) * queue.labels.shape[0]
        return feature_queue.push(
            queue, z, labels, proxies, size=spec.size, first=first
        )

    arguments = lax.stop_gradient((z, labels, centres))
    run = _on_mesh(spec, shard, (PLACES, P(DATA), P(DATA), P(DATA)), PLACES)
    return run(queue, *arguments)


def contrastive_loss(
    spec: QueueSpec,
    q: Float[Array, "b d"],
    k: Float[Array, "b d"],
    queue: FeatureQueue,
    labels: Int[Array, " b"],
    centres: Float[Array, "c d"],
) -> tuple[Float[Array, " b"], Float[Array, " b"], Float[Array, " b"]]:
    """Returns the contrastive loss against the queue as it would be now.

    As `losses.contrast.contrastive_loss` of `feature_queue.view`, but no device holds
    the view, or more of the queue than its own rows.

    Args:
        spec: Scale, mask, chunk and mesh.
        q: Raw features of the degraded views, [b, d].
        k: Raw features of the originals, [b, d]; no gradient reaches them.
        queue: Its rows are cut over the devices.
        labels: Identity of each row, int32 [b].
        centres: Raw class centres now, [c, d], all of them; no gradient reaches them.

    Returns:
        The loss of each row, [b]; the cosine of each with its original, [b]; the mean
        cosine of each with its negatives, [b].
    """
    z = contrast.unit(q)
    negatives = _negatives(spec, z, queue, labels, centres)
    loss = contrast.loss_against(
        z, k, negatives.log_sum, negatives.slope, scale=spec.scale
    )
    return loss, contrast.positive_cosine(z, k), negatives.mean_cosine


def _negatives(spec, z, queue, labels, centres) -> Negatives:
    specs = (P(DATA), PLACES, P(DATA), P(DATA))
    run = _on_mesh(spec, partial(_negatives_shard, spec), specs, P(DATA))
    return run(*lax.stop_gradient((z, queue, labels, centres)))


def _negatives_shard(spec, z_rows, queue, label_rows, centres):
    """The negatives of this device's queries, over the queue of all devices."""
    rows = queue.labels.shape[0]

    def part(index):
        start, fresh = chunk_bounds(index, rows, spec.chunk)
        size = fresh.shape[0]
        entries, entry_labels = (
            lax.dynamic_slice_in_dim(array, start, size)
            for array in (queue.z, queue.labels)
        )
        if queue.proxies is not None:
            then = lax.dynamic_slice_in_dim(queue.proxies, start, size)
            # Every device asks for the centres of its part; each gives what it has.
            own_centres = _own_rows(centres, gather(entry_labels))
            now = lax.psum_scatter(own_centres, DATA, scatter_dimension=0, tiled=True)
            entries = feature_queue.proxy_view(entries, then, now)
        return entries, jnp.where(fresh, entry_labels, feature_queue.EMPTY)

    number, _ = chunk_count_and_size(rows, spec.chunk)
    sums = contrast.sum_negatives(
        gather(z_rows),
        gather(label_rows),
        part,
        number,
        scale=spec.scale,
        supervised_mask=spec.supervised_mask,
    )
    negatives = contrast.finish(contrast.joined(sums, DATA), spec.scale)
    return jax.tree.map(lambda values: slice_rows(values, z_rows), negatives)


def fill(spec: QueueSpec, queue: FeatureQueue) -> Float[Array, ""]:
    """Returns the share of the slots that are filled, []."""
    filled = jnp.sum(queue.labels >= 0, dtype=jnp.float32)
    return filled / spec.size
