"""The class centres: sharded over all devices, their logits streamed in chunks.

Margin softmax needs two numbers of a sample only: the cosine to its own class, and the
logsumexp over all other classes. Every device gathers the features (small), walks over
its own classes chunk by chunk, and the partial results are joined by max and sum over
the devices. The backward pass walks again and writes the centres' gradient chunk by
chunk. So no device ever holds [b, c] logits; the largest temporary array is the
gradient of its own centres.

The backward pass is written out rather than derived: forward and backward are each one
`shard_map`, so no collective is ever transposed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from qface_jax.class_sample import ClassSample
from qface_jax.parallel import DATA

# Logit of a class that does not count (padding row, own class): exp gives exactly 0,
# and the difference of two of them is 0, not NaN.
ABSENT = -1e30


class ClassifierSpec(NamedTuple):
    """What is fixed at compile time.

    Attributes:
        negative: (cos_theta [b, c], cos_y [b], state) -> margined cosines, [b, c].
        scale: s.
        num_classes: Centres from this row on are padding.
        chunk: Most classes that a device takes at a time.
        mesh: Mesh over which features and centres are sharded.
    """

    negative: Callable[..., Any]
    scale: float
    num_classes: int
    chunk: int
    mesh: Mesh


class Similarity(NamedTuple):
    """What the margin loss needs of the centres, each [b].

    Attributes:
        cos_y: Cosine to the own centre; 0 where the label is -1.
        log_negatives: logsumexp of the scaled margined cosines to all other centres;
            ABSENT where there is no other.
        max_negative: Largest of those, without gradient.
    """

    cos_y: Float[Array, " b"]
    log_negatives: Float[Array, " b"]
    max_negative: Float[Array, " b"]


def padded_classes(num_classes: int, pad_to: int) -> int:
    """Returns the rows of the centre matrix: a multiple of `pad_to`.

    The multiple does not depend on the number of devices, so a checkpoint fits any
    number of devices that divides it.
    """
    return -(-num_classes // pad_to) * pad_to


def init_centres(key: jax.Array, rows: int, dim: int) -> Float[Array, "c d"]:
    """Returns class centres of norm 1 in random directions, [c, d].

    Only their direction counts, but their gradient goes as 1 / norm: at norm 1 a step
    of the size that suits the backbone suits them too (as in AdaFace's repository).
    """
    centres = jax.random.normal(key, (rows, dim), jnp.float32)
    return centres * _inverse_norms(centres)[:, None]


def _inverse_norms(w):
    squared = jnp.sum(w * w, axis=1)
    return jnp.where(squared > 0.0, lax.rsqrt(jnp.maximum(squared, 1e-30)), 0.0)


def _dot(equation, a, b):
    # Logits stay float32 on accelerators whose default product is coarser.
    return jnp.einsum(equation, a, b, precision=lax.Precision.HIGHEST)


def _layout(spec, w, labels, sample):
    """Class of each of this device's rows, [c], and the row of each own class, [b].

    -1 marks a row that is no class, and a class that another device holds.
    """
    if sample is not None:
        return sample.classes, sample.places[0]
    first = lax.axis_index(DATA) * w.shape[0]
    classes = first + jnp.arange(w.shape[0])
    local = labels - first
    mine = (local >= 0) & (local < w.shape[0]) & (labels >= 0)
    return (
        jnp.where(classes < spec.num_classes, classes, -1),
        jnp.where(mine, local, -1),
    )


def _own_cosine(z, w, places):
    """Cosine to the own class, wherever it lies; 0 where there is none; [b]."""
    rows = w[jnp.maximum(places, 0)]
    cos = jnp.sum(z * rows, axis=1) * _inverse_norms(rows)
    return lax.psum(jnp.where(places >= 0, cos, 0.0), DATA)


def _chunks(rows, chunk):
    """Number and length of equal chunks that cover the rows; the last may overlap."""
    number = -(-rows // chunk)
    return number, -(-rows // number)


def _chunk(spec, w, classes, index):
    """Chunk `index`: raw centres, first local row, their classes, which are new."""
    _, size = _chunks(w.shape[0], spec.chunk)
    start = jnp.minimum(index * size, w.shape[0] - size)
    # The last chunk is moved back to fit; its first rows were already seen.
    fresh = start + jnp.arange(size) >= index * size
    return (
        lax.dynamic_slice_in_dim(w, start, size),
        start,
        lax.dynamic_slice_in_dim(classes, start, size),
        fresh,
    )


def _negatives(spec, cos, cos_y, state, classes, labels):
    """Scaled margined logits of the other classes of a chunk, ABSENT elsewhere."""
    other = (classes[None, :] != labels[:, None]) & (classes >= 0)[None, :]
    logits = spec.scale * spec.negative(cos, cos_y, state)
    return jnp.where(other, logits, ABSENT)


def _slice_rows(x, like):
    """This device's rows of an array that all devices hold whole."""
    return lax.dynamic_slice_in_dim(
        x, lax.axis_index(DATA) * like.shape[0], like.shape[0]
    )


def _gather(x):
    return lax.all_gather(x, DATA, tiled=True)


def _forward_shard(spec, z_rows, w, label_rows, sample, state):
    z, labels = _gather(z_rows), _gather(label_rows)
    classes, places = _layout(spec, w, labels, sample)
    cos_y = _own_cosine(z, w, places)

    def body(index, carry):
        top, total = carry
        rows_w, _, chunk_classes, fresh = _chunk(spec, w, classes, index)
        cos = _dot("bd,cd->bc", z, rows_w) * _inverse_norms(rows_w)[None, :]
        logits = _negatives(spec, cos, cos_y, state, chunk_classes, labels)
        logits = jnp.where(fresh[None, :], logits, ABSENT)
        new_top = jnp.maximum(top, jnp.max(logits, axis=1))
        part = jnp.where(logits > ABSENT, jnp.exp(logits - new_top[:, None]), 0.0)
        return new_top, total * jnp.exp(top - new_top) + jnp.sum(part, axis=1)

    start = (jnp.full_like(cos_y, ABSENT), jnp.zeros_like(cos_y))
    number, _ = _chunks(w.shape[0], spec.chunk)
    top, total = lax.fori_loop(0, number, body, start)
    all_top = lax.pmax(top, DATA)
    all_total = lax.psum(total * jnp.exp(top - all_top), DATA)
    some = all_total > 0.0
    log_negatives = jnp.where(
        some, all_top + jnp.log(jnp.where(some, all_total, 1.0)), ABSENT
    )
    # Each device returns its own samples, so nothing is replicated.
    return tuple(_slice_rows(x, z_rows) for x in (cos_y, log_negatives, all_top))


def _backward_shard(spec, z_rows, w, label_rows, sample, state, *row_values):
    z, labels = _gather(z_rows), _gather(label_rows)
    cos_y, log_negatives, grad_cos_y, grad_log = (_gather(x) for x in row_values)
    classes, _ = _layout(spec, w, labels, sample)

    def body(index, carry):
        dz, dw = carry
        rows_w, start, chunk_classes, fresh = _chunk(spec, w, classes, index)
        inverse = _inverse_norms(rows_w)
        cos = _dot("bd,cd->bc", z, rows_w) * inverse[None, :]
        logits, pull = jax.vjp(
            lambda c: _negatives(spec, c, cos_y, state, chunk_classes, labels), cos
        )
        probs = jnp.where(logits > ABSENT, jnp.exp(logits - log_negatives[:, None]), 0)
        (dcos,) = pull(grad_log[:, None] * probs)
        own = (chunk_classes[None, :] == labels[:, None]) & (labels >= 0)[:, None]
        dcos = dcos + jnp.where(own, grad_cos_y[:, None], 0.0)
        # w = |w| w_hat: the part of the gradient along w_hat drops out.
        along = jnp.sum(dcos * cos, axis=0)
        dw_rows = inverse[:, None] * (
            _dot("bc,bd->cd", dcos, z) - (along * inverse)[:, None] * rows_w
        )
        # Rows seen twice get the same value twice, but count once in dz.
        dw = lax.dynamic_update_slice_in_dim(dw, dw_rows, start, 0)
        weight = jnp.where(fresh, inverse, 0.0)
        return dz + _dot("bc,cd->bd", dcos * weight[None, :], rows_w), dw

    number, _ = _chunks(w.shape[0], spec.chunk)
    dz, dw = lax.fori_loop(0, number, body, (jnp.zeros_like(z), jnp.zeros_like(w)))
    return lax.psum_scatter(dz, DATA, scatter_dimension=0, tiled=True), dw


def _on_mesh(spec, shard, outputs, row_arguments):
    """Runs a per-device function; state is whole everywhere, all else cut in rows."""
    specs = (P(DATA),) * 4 + (P(),) + (P(DATA),) * row_arguments
    return jax.shard_map(
        partial(shard, spec),
        mesh=spec.mesh,
        in_specs=specs,
        out_specs=(P(DATA),) * outputs,
        check_vma=False,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _similarity(spec, z, centres, labels, sample, state):
    return _on_mesh(spec, _forward_shard, 3, 0)(z, centres, labels, sample, state)


def _similarity_forward(spec, *arguments):
    outputs = _similarity(spec, *arguments)
    return outputs, (*arguments, outputs[0], outputs[1])


def _similarity_backward(spec, residuals, grads):
    *arguments, cos_y, log_negatives = residuals
    grad_cos_y, grad_log, _ = grads
    dz, dw = _on_mesh(spec, _backward_shard, 2, 4)(
        *arguments, cos_y, log_negatives, grad_cos_y, grad_log
    )
    return dz, dw, None, None, None


_similarity.defvjp(_similarity_forward, _similarity_backward)


def similarity(
    spec: ClassifierSpec,
    z: Float[Array, "b d"],
    centres: Float[Array, "c d"],
    labels: Int[Array, " b"],
    state: Any,
    sample: ClassSample | None = None,
) -> Similarity:
    """Compares each feature with all class centres without storing [b, c].

    log_negatives_i = log sum_{j != y_i} exp(s f_neg(cos theta_ij)), so that the margin
    loss is -log P_y = softplus(log_negatives - s f(cos theta_y)).

    Args:
        spec: The negatives' margin, scale, class count, chunk and mesh.
        z: Unit features, [b, d]; b must be divisible by the number of devices.
        centres: Raw class centres, [c, d]; c must be divisible by it too.
        labels: Class of each row, int32 in [0, num_classes), or -1 for none, [b].
        state: The margin's state, a pytree of arrays; gets no gradient.
        sample: Where `centres` are sampled rows: which classes they are. All own
            classes must be among them.

    Returns:
        Similarity; its gradient reaches `z` and `centres`.

    Raises:
        ValueError: if a leading axis is not divisible by the number of devices.
    """
    devices = spec.mesh.shape[DATA]
    for name, array in (("batch", z), ("centres", centres)):
        if array.shape[0] % devices:
            raise ValueError(
                f"{name} of {array.shape[0]} rows cannot be cut over {devices} devices"
            )
    state = lax.stop_gradient(state)
    return Similarity(*_similarity(spec, z, centres, labels, sample, state))


def own_cosine(
    spec: ClassifierSpec,
    z: Float[Array, "b d"],
    centres: Float[Array, "c d"],
    labels: Int[Array, " b"],
    sample: ClassSample | None = None,
) -> Float[Array, " b"]:
    """Returns the cosine to the own centre, [b]; 0 for label -1. No gradient.

    Costs one gather of b rows; for margins whose state needs the target cosine before
    the other classes are looked at (CurricularFace). Arguments as in `similarity`.
    """

    def shard(z_rows, w, label_rows, sample):
        _, places = _layout(spec, w, _gather(label_rows), sample)
        return _slice_rows(_own_cosine(_gather(z_rows), w, places), z_rows)

    arguments = lax.stop_gradient((z, centres))
    return jax.shard_map(
        shard,
        mesh=spec.mesh,
        in_specs=(P(DATA),) * 4,
        out_specs=P(DATA),
        check_vma=False,
    )(*arguments, labels, sample)
