"""A batch through the backbone in parts, one after another: memory for time.

Only the backbone works in parts. The loss sees the features of the whole batch, so the
margin's statistics, Partial FC's draw and the class centres' gradient are those of the
whole batch, and the work on the classes is done once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

from qface_jax.sharded.parallel import DATA

Forward = Callable[..., tuple[Any, Any]]


def split_rows(
    rows: Shaped[Array, "b ..."], parts: int, mesh: Mesh
) -> Shaped[Array, "k p ..."]:
    """Returns the parts of a batch, [k, b / k, ...]: part i has the rows r = i mod k.

    Neighbouring rows go to different parts, so what a part holds does not depend on the
    number of devices, and each device finds its share of every part among the rows it
    has.
    """
    if rows.shape[0] % (parts * mesh.shape[DATA]):
        raise ValueError(
            f"batch of {rows.shape[0]} rows cannot be cut into {parts} parts over "
            f"{mesh.shape[DATA]} devices; expected a multiple of "
            f"{parts * mesh.shape[DATA]}"
        )
    cut = rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:])
    return _constrain(jnp.swapaxes(cut, 0, 1), mesh, P(None, DATA))


def join_rows(parts: Shaped[Array, "k p ..."], mesh: Mesh) -> Shaped[Array, "b ..."]:
    """Returns the batch that `split_rows` cut, in its order, [b, ...]."""
    rows = jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])
    return _constrain(rows, mesh, P(DATA))


def _constrain(array, mesh, spec):
    return lax.with_sharding_constraint(array, NamedSharding(mesh, spec))


def in_parts(forward: Forward, parts: int, mesh: Mesh) -> Forward:
    """Returns `forward` taking the batch in parts; with one part, `forward` itself.

    The features of all parts are kept, their activations are not: the backward pass
    recomputes them part by part and adds up the parameters' gradient. So memory falls
    towards that of one part, and the backbone's forward pass is done twice.

    Batch norm sees one part at a time: its statistics are those of b / k rows, and the
    running ones pass through the parts in order, k updates a step.

    Args:
        forward: (params, stats, images [b, ...], key) -> (features [b, d], stats), or
            (pytree of rows, stats).
        parts: k; the batch must be a multiple of k times the number of devices.
        mesh: Mesh over which the batch is cut.
    """
    if parts == 1:
        return forward

    def run(params, stats, images, key):
        def part(stats, numbered):
            number, part_images = numbered
            features, stats = forward(
                params, stats, part_images, jax.random.fold_in(key, number)
            )
            # The running statistics have no gradient; none is carried through the loop.
            return lax.stop_gradient(stats), features

        cut = split_rows(images, parts, mesh)
        # The loop already keeps the recomputation apart from what it repeats.
        part = jax.checkpoint(part, prevent_cse=False)
        stats, features = lax.scan(part, stats, (jnp.arange(parts), cut))
        return jax.tree.map(lambda leaf: join_rows(leaf, mesh), features), stats

    return run
