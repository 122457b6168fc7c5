"""What each device does with its class centres: the streamed forward and backward.

The functions run inside `shard_map` over the axis `data`: arguments ending in `_rows`,
the centres `w` and the sample are this device's part, everything gathered is whole.

Centres may be stored in bfloat16. They are widened to float32 a chunk at a time, so no
float32 copy of them all exists, and their gradient is written in their own type.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from qface_jax.losses.contrast import ABSENT
from qface_jax.sharded.bfloat16_rows import as_words, widened
from qface_jax.sharded.parallel import DATA


def chunk_count_and_size(rows: int, chunk: int) -> tuple[int, int]:
    """Returns how many equal chunks cover the rows, and their length.

    Args:
        rows: At least 1.
        chunk: Most rows of a chunk, at least 1.

    >>> chunk_count_and_size(10, 4)
    (3, 4)
    """
    count = -(-rows // chunk)
    return count, -(-rows // count)


def chunk_bounds(
    index: int | Int[Array, ""], rows: int, chunk: int
) -> tuple[Int[Array, ""], Bool[Array, " m"]]:
    """Returns the first row of a chunk, [], and which of its rows are new, [m].

    Where the length does not divide the rows, the last chunk begins earlier, and its
    first rows were seen before.

    Args:
        index: Number of the chunk.
        rows: Of all chunks.
        chunk: As in `chunk_count_and_size`.
    """
    _, size = chunk_count_and_size(rows, chunk)
    start = jnp.minimum(index * size, rows - size)
    return start, start + jnp.arange(size) >= index * size


def inverse_norms(w):
    """Returns 1 / ||w_j||, [c]; 0 for a zero row."""
    squared = jnp.sum(w * w, axis=1)
    return jnp.where(squared > 0.0, lax.rsqrt(jnp.maximum(squared, 1e-30)), 0.0)


def _dot(equation, a, b):
    # Logits stay float32 on accelerators whose default product is coarser.
    return jnp.einsum(equation, a, b, precision=lax.Precision.HIGHEST)


def layout(spec, w, labels, sample):
    """Returns the class of each local row, [c], and the row of each own class, [b].

    -1 marks a row that is no class, and a class that another device holds.
    """
    if sample is not None:
        return sample.classes, sample.places[0]
    first = lax.axis_index(DATA) * w.shape[0]
    classes = first + jnp.arange(w.shape[0])
    local = labels - first
    is_local = (local >= 0) & (local < w.shape[0]) & (labels >= 0)
    return (
        jnp.where(classes < spec.num_classes, classes, -1),
        jnp.where(is_local, local, -1),
    )


def own_cosine(z, w, places):
    """Returns the cosine to the own class, wherever it lies; 0 without one; [b]."""
    rows = widened(as_words(w)[jnp.maximum(places, 0)])
    cos = jnp.sum(z * rows, axis=1) * inverse_norms(rows)
    return lax.psum(jnp.where(places >= 0, cos, 0.0), DATA)


def _chunk(spec, w, classes, index):
    """Chunk `index`: float32 centres, first local row, their classes, which are new."""
    start, fresh = chunk_bounds(index, w.shape[0], spec.chunk)
    size = fresh.shape[0]
    rows = w
    if w.dtype == jnp.bfloat16:
        # Keeps XLA from widening all centres ahead of the loop.
        rows, start = lax.optimization_barrier((w, start))
    return (
        lax.dynamic_slice_in_dim(rows, start, size).astype(jnp.float32),
        start,
        lax.dynamic_slice_in_dim(classes, start, size),
        fresh,
    )


def _others(classes, labels):
    """Which classes of a chunk are another one than that of each row, [b, m]."""
    return (classes[None, :] != labels[:, None]) & (classes >= 0)[None, :]


def _negatives(spec, cos, cos_y, state, classes, labels):
    """Scaled margined logits of the other classes of a chunk, ABSENT elsewhere."""
    logits = spec.scale * spec.negative(cos, cos_y, state)
    return jnp.where(_others(classes, labels), logits, ABSENT)


def slice_rows(x, like):
    """Returns this device's rows of an array that all devices hold whole."""
    return lax.dynamic_slice_in_dim(
        x, lax.axis_index(DATA) * like.shape[0], like.shape[0]
    )


def gather(x):
    """Returns the rows of all devices."""
    return lax.all_gather(x, DATA, tiled=True)


def forward_shard(spec, z_rows, w, label_rows, sample, state):
    """Returns cos_y, log_negatives and nearest of this device's samples."""
    z, labels = gather(z_rows), gather(label_rows)
    classes, places = layout(spec, w, labels, sample)
    cos_y = own_cosine(z, w, places)

    def body(index, carry):
        top, total, nearest = carry
        rows_w, _, chunk_classes, fresh = _chunk(spec, w, classes, index)
        cos = _dot("bd,cd->bc", z, rows_w) * inverse_norms(rows_w)[None, :]
        logits = _negatives(spec, cos, cos_y, state, chunk_classes, labels)
        logits = jnp.where(fresh[None, :], logits, ABSENT)
        new_top = jnp.maximum(top, jnp.max(logits, axis=1))
        part = jnp.where(logits > ABSENT, jnp.exp(logits - new_top[:, None]), 0.0)
        total = total * jnp.exp(top - new_top) + jnp.sum(part, axis=1)
        # A row that is seen twice is as near the second time.
        others = jnp.where(_others(chunk_classes, labels), cos, -1.0)
        return new_top, total, jnp.maximum(nearest, jnp.max(others, axis=1))

    start = (
        jnp.full_like(cos_y, ABSENT),
        jnp.zeros_like(cos_y),
        jnp.full_like(cos_y, -1.0),
    )
    number, _ = chunk_count_and_size(w.shape[0], spec.chunk)
    top, total, nearest = lax.fori_loop(0, number, body, start)
    all_top = lax.pmax(top, DATA)
    all_total = lax.psum(total * jnp.exp(top - all_top), DATA)
    some = all_total > 0.0
    log_negatives = jnp.where(
        some, all_top + jnp.log(jnp.where(some, all_total, 1.0)), ABSENT
    )
    # Each device returns its own samples, so nothing is replicated.
    nearest = jnp.minimum(lax.pmax(nearest, DATA), 1.0)
    return tuple(slice_rows(x, z_rows) for x in (cos_y, log_negatives, nearest))


def backward_shard(spec, z_rows, w, label_rows, sample, state, *row_values):
    """Returns the gradients of this device's features and of its centres."""
    z, labels = gather(z_rows), gather(label_rows)
    cos_y, log_negatives, grad_cos_y, grad_log = (gather(x) for x in row_values)
    classes, _ = layout(spec, w, labels, sample)

    def body(index, carry):
        dz, dw = carry
        rows_w, start, chunk_classes, fresh = _chunk(spec, w, classes, index)
        inverse = inverse_norms(rows_w)
        cos = _dot("bd,cd->bc", z, rows_w) * inverse[None, :]
        logits, pull = jax.vjp(
            lambda c: _negatives(spec, c, cos_y, state, chunk_classes, labels), cos
        )
        probs = jnp.where(logits > ABSENT, jnp.exp(logits - log_negatives[:, None]), 0)
        (dcos,) = pull(grad_log[:, None] * probs)
        is_own = (chunk_classes[None, :] == labels[:, None]) & (labels >= 0)[:, None]
        dcos = dcos + jnp.where(is_own, grad_cos_y[:, None], 0.0)
        # w = |w| w_hat: the part of the gradient along w_hat drops out.
        along = jnp.sum(dcos * cos, axis=0)
        dw_rows = inverse[:, None] * (
            _dot("bc,bd->cd", dcos, z) - (along * inverse)[:, None] * rows_w
        )
        # Rows seen twice get the same value twice, but count once in dz.
        dw = lax.dynamic_update_slice_in_dim(dw, dw_rows.astype(dw.dtype), start, 0)
        weight = jnp.where(fresh, inverse, 0.0)
        return dz + _dot("bc,cd->bd", dcos * weight[None, :], rows_w), dw

    number, _ = chunk_count_and_size(w.shape[0], spec.chunk)
    dz, dw = lax.fori_loop(0, number, body, (jnp.zeros_like(z), jnp.zeros_like(w)))
    return lax.psum_scatter(dz, DATA, scatter_dimension=0, tiled=True), dw


def own_cosine_shard(spec, z_rows, w, label_rows, sample):
    """Returns the cosine to the own class of this device's samples."""
    _, places = layout(spec, w, gather(label_rows), sample)
    return slice_rows(own_cosine(gather(z_rows), w, places), z_rows)
