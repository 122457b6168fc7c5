"""Partial FC: the classes of the batch and a random share of the others.

The centre matrix is cut into a fixed number of blocks, whatever the number of devices,
and every block draws the same share of its rows. So the sample is a function of
(seed, step) and the batch alone: another number of devices sees the same classes.

References:
    An et al. Killing Two Birds with One Stone: Efficient and Robust Training of Face
    Recognition CNNs by Partial FC. CVPR 2022.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from qface_jax.sharded import permutation
from qface_jax.sharded.bfloat16_rows import as_words, from_words
from qface_jax.sharded.parallel import DATA

NONE = -1


class ClassSample(NamedTuple):
    """Sampled classes, cut over the devices like the centres they come from.

    Attributes:
        rows: Row within the device's own centres, [k]; meaningless where `classes`
            is -1.
        classes: Class of each row, [k]; -1 where the entry does not count: a class
            that stands in the sample already, a padding row, another device's class.
        places: Where in this device's sample the class of each sample of the global
            batch stands, [devices, b]; -1 where it is another device's.
    """

    rows: Int[Array, " k"]
    classes: Int[Array, " k"]
    places: Int[Array, "n b"]


def block_share(rows: int, blocks: int, rate: float) -> int:
    """Returns how many rows each block draws: ceil(rate rows / blocks)."""
    return math.ceil(rate * (rows // blocks))


def _first_of_each(labels):
    """True where no earlier entry has the same label, [b]."""
    order = jnp.argsort(labels, stable=True)
    ranked = labels[order]
    new = jnp.concatenate([jnp.ones((1,), bool), ranked[1:] != ranked[:-1]])
    return jnp.zeros(labels.shape, bool).at[order].set(new)


def _place_of_first(labels):
    """Index of the first entry with the same label, [b]."""
    order = jnp.argsort(labels, stable=True)
    ranked = labels[order]
    first = order[jnp.searchsorted(ranked, ranked, side="left")]
    return jnp.zeros(labels.shape, jnp.int32).at[order].set(first.astype(jnp.int32))


def sample_classes(
    labels: Int[Array, " b"],
    key: jax.Array,
    *,
    mesh: Mesh,
    rows: int,
    num_classes: int,
    blocks: int,
    rate: float,
) -> ClassSample:
    """Draws the classes of one step; shapes depend on nothing drawn.

    Args:
        labels: int32 [b], -1 for none, cut over the devices.
        key: Key of this step.
        mesh: Mesh over which the centres are cut.
        rows: Rows of the centre matrix, a multiple of `blocks`.
        num_classes: Rows from here on are padding and never drawn.
        blocks: A multiple of the number of devices.
        rate: Share of each block that is drawn, in (0, 1].
    """
    devices = mesh.shape[DATA]
    local_blocks, size = blocks // devices, rows // blocks
    share = block_share(rows, blocks, rate)
    keys = permutation.draw_keys(key, (blocks,))

    def shard(label_rows, keys):
        labels = lax.all_gather(label_rows, DATA, tiled=True)
        begin = lax.axis_index(DATA) * local_blocks * size
        local_keys = lax.dynamic_slice_in_dim(
            keys, lax.axis_index(DATA) * local_blocks, local_blocks
        )
        block = jnp.repeat(jnp.arange(local_blocks), share)
        within = jnp.tile(jnp.arange(share), local_blocks)
        drawn = block * size + permutation.permute(within, local_keys[block], size)
        local = labels - begin
        is_local = (local >= 0) & (local < local_blocks * size) & (labels >= 0)
        local = jnp.where(is_local, local, 0)
        index = permutation.unpermute(local % size, local_keys[local // size], size)
        already = is_local & (index < share)
        added = is_local & ~already & _first_of_each(labels)
        place = jnp.where(
            already,
            (local // size) * share + index,
            local_blocks * share + _place_of_first(labels),
        )
        local_rows = jnp.concatenate([drawn, local])
        counts = jnp.concatenate([begin + drawn < num_classes, added])
        classes = jnp.where(counts, begin + local_rows, NONE)
        return ClassSample(local_rows, classes, jnp.where(is_local, place, NONE)[None])

    return jax.shard_map(
        shard,
        mesh=mesh,
        in_specs=(P(DATA), P()),
        out_specs=P(DATA),
        check_vma=False,
    )(labels, keys)


def take(sample: ClassSample, leaf: Float[Array, "c ..."], mesh: Mesh) -> Any:
    """Returns the sampled rows of an array that is cut like the centres, [k, ...]."""
    return jax.shard_map(
        lambda array, rows: from_words(as_words(array)[rows], array.dtype),
        mesh=mesh,
        in_specs=(P(DATA), P(DATA)),
        out_specs=P(DATA),
        check_vma=False,
    )(leaf, sample.rows)


def put_plain(array: Any, rows: Any, values: Any) -> Any:
    """Returns the array with those rows replaced; rows behind the end are dropped."""
    return array.at[rows].set(values, mode="drop")


def put_words(array: Any, rows: Any, values: Any) -> Any:
    """Does the same to bfloat16 where it cannot be written in place (XLA's CPU)."""
    words = put_plain(as_words(array), rows, as_words(values))
    return from_words(words, array.dtype)


def put(
    sample: ClassSample, leaf: Float[Array, "c ..."], new: Any, mesh: Mesh
) -> Float[Array, "c ..."]:
    """Returns the array with its sampled rows replaced; all others are untouched."""

    def shard(array, values, sampled):
        # Entries that do not count point behind the end, where nothing is written.
        rows = jnp.where(sampled.classes >= 0, sampled.rows, array.shape[0])
        if array.dtype != jnp.bfloat16:
            return put_plain(array, rows, values)
        return lax.platform_dependent(
            array, rows, values, cpu=put_words, default=put_plain
        )

    return jax.shard_map(
        shard,
        mesh=mesh,
        in_specs=(P(DATA), P(DATA), P(DATA)),
        out_specs=P(DATA),
        check_vma=False,
    )(leaf, new, sample)
