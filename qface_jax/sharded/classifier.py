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

from qface_jax.sharded import streamed_logits
from qface_jax.sharded.bfloat16_rows import as_words, from_words
from qface_jax.sharded.class_sample import ClassSample
from qface_jax.sharded.parallel import DATA

CENTRES = "centres"  # name of the class centres among the parameters of a head


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
        nearest: Cosine to the nearest other centre, without margin, within [-1, 1];
            -1 where there is no other. No gradient.
    """

    cos_y: Float[Array, " b"]
    log_negatives: Float[Array, " b"]
    nearest: Float[Array, " b"]


def padded_classes(num_classes: int, pad_to: int) -> int:
    """Returns the rows of the centre matrix: a multiple of `pad_to`.

    The multiple does not depend on the number of devices, so a checkpoint fits any
    number of devices that divides it.
    """
    return -(-num_classes // pad_to) * pad_to


def init_centres(
    key: jax.Array,
    rows: int,
    dim: int,
    *,
    mesh: Mesh,
    blocks: int,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
) -> Float[Array, "c d"]:
    """Returns class centres of norm 1 in random directions, [c, d].

    Only their direction counts, but their gradient goes as 1 / norm: at norm 1 a step
    of the size that suits the backbone suits them too (as in AdaFace's repository).

    They are drawn block by block, each device its own, so that nothing but the centres
    themselves takes memory; the number of devices does not change them.

    Args:
        key: Key of the directions.
        rows: c, a multiple of `blocks`.
        dim: d.
        mesh: Mesh over which the centres are cut.
        blocks: A multiple of the number of devices.
        num_classes: Rows from here on are padding. They start as zeros, which neither
            gradient (none) nor weight decay ever moves. None: there are none.
        dtype: What the centres are stored in.
    """
    local_blocks, size = blocks // mesh.shape[DATA], rows // blocks
    last = rows if num_classes is None else num_classes

    def shard(key):
        def draw(block):
            own_key = jax.random.fold_in(key, block)
            centres = jax.random.normal(own_key, (size, dim), jnp.float32)
            counts = block * size + jnp.arange(size) < last
            scale = jnp.where(counts, streamed_logits.inverse_norms(centres), 0.0)
            return as_words((centres * scale[:, None]).astype(dtype))

        words = lax.map(
            draw, lax.axis_index(DATA) * local_blocks + jnp.arange(local_blocks)
        )
        return from_words(words.reshape(local_blocks * size, dim), dtype)

    return jax.shard_map(
        shard, mesh=mesh, in_specs=P(), out_specs=P(DATA), check_vma=False
    )(key)


def add_rows(
    mesh: Mesh,
    sums: Float[Array, "c d"],
    rows: Float[Array, "b d"],
    labels: Int[Array, " b"],
) -> Float[Array, "c d"]:
    """Returns sums over classes with the rows of a batch added to them, [c, d].

    Args:
        mesh: Mesh over which both are cut.
        sums: So far, [c, d].
        rows: What is added, [b, d].
        labels: Class of each, int32 [b]; -1: none, the row is not added.
    """

    def shard(sums, rows, labels):
        rows, labels = streamed_logits.gather(rows), streamed_logits.gather(labels)
        local = labels - lax.axis_index(DATA) * sums.shape[0]
        # Another device's class, and none, lie behind the end, where nothing is added.
        is_local = (labels >= 0) & (local >= 0) & (local < sums.shape[0])
        places = jnp.where(is_local, local, sums.shape[0])
        return sums.at[places].add(rows, mode="drop")

    return jax.shard_map(
        shard, mesh=mesh, in_specs=(P(DATA),) * 3, out_specs=P(DATA), check_vma=False
    )(sums, rows, labels)


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
    return _on_mesh(spec, streamed_logits.forward_shard, 3, 0)(
        z, centres, labels, sample, state
    )


def _similarity_forward(spec, *arguments):
    outputs = _similarity(spec, *arguments)
    return outputs, (*arguments, outputs[0], outputs[1])


def _similarity_backward(spec, residuals, grads):
    *arguments, cos_y, log_negatives = residuals
    grad_cos_y, grad_log, _ = grads
    dz, dw = _on_mesh(spec, streamed_logits.backward_shard, 2, 4)(
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


def own_probability(similar: Similarity, scale: float) -> Float[Array, " b"]:
    """Returns the probability of the own class by a softmax without margin, [b].

    P_y = exp(s cos theta_y) / sum_j exp(s cos theta_j) = sigmoid(s cos theta_y -
    log_negatives), over the own class and all others that the classifier compared: with
    sampled classes (Partial FC) those of the sample, so that it is larger there than
    over all classes. Without gradient.

    Args:
        similar: From `similarity` with a `negative` that leaves the cosines as they
            are; rows with label -1 have the probability of a cosine of 0.
        scale: s.
    """
    logits = scale * similar.cos_y - similar.log_negatives
    return lax.stop_gradient(jax.nn.sigmoid(logits))


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

    arguments = lax.stop_gradient((z, centres))
    return jax.shard_map(
        partial(streamed_logits.own_cosine_shard, spec),
        mesh=spec.mesh,
        in_specs=(P(DATA),) * 4,
        out_specs=P(DATA),
        check_vma=False,
    )(*arguments, labels, sample)
