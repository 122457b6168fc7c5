"""The degradation of a batch as a function of the step, a part of the training step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, UInt8, UInt32

from qface_jax.sharded.parallel import DATA
from qface_jax.tables import RECIPES

# Folded into the run's key; as a step number it would be one beyond the last.
_DRAWS = 2**31

Images = UInt8[Array, "b ..."]
Degrade = Callable[[jax.Array, Int[Array, ""], Images], Images]


def degradation(
    recipe: str,
    params: Any,
    *,
    batch_size: int,
    mesh: Mesh,
    beside: Any | None = None,
) -> Degrade:
    """Returns what degrades the global batch of a step.

    Row j of step t is position g = t * batch_size + j of the stream. Its draws follow
    from the run's key and g, whatever the devices are and wherever a run was resumed;
    they are of the same distributions as those of the input pipeline, not the same
    numbers. Pictures are the same on another number of devices but for sums in another
    order: of 100,000 pixels about one is a grey level off. Each device works on its own
    rows; nothing is exchanged.

    Args:
      recipe: of `tables.RECIPES`, one with a `draw_on_device`.
      params: its options as attributes.
      batch_size: b, rows of all devices together.
      mesh: over which they are cut.
      beside: options of the recipe clean, by which there is a second view of every
        picture. None: there are those of `recipe`.

    Returns:
      (the run's key, updates done before the step int32 [], images uint8
      [b, 112, 112, 3]) -> uint8 [b, 112, 112, 3]; with `beside`, or a recipe of two
      views, [b, 2, 112, 112, 3], first the degraded view.
    """
    draw = RECIPES[recipe].draw_on_device

    def rows(key, places, images):
        key = jax.random.fold_in(key, _DRAWS)
        of_first, of_second = jax.random.split(key)
        first = draw(images, _keys(of_first, places), params)
        if beside is None:
            return first
        clean = RECIPES["clean"].draw_on_device
        second = clean(images, _keys(of_second, places), beside)
        return jnp.stack([first, second], axis=1)

    cut = jax.shard_map(
        rows, mesh=mesh, in_specs=(P(), P(DATA), P(DATA)), out_specs=P(DATA)
    )

    def degrade(key, step, images):
        return cut(key, positions(step, batch_size), images)

    return degrade


def positions(step: Int[Array, ""], batch_size: int) -> UInt32[Array, "b 2"]:
    """Returns step * batch_size + row for each row, its upper and lower 32 digits.

    Args:
      step: 0 .. 2^31 - 1.
      batch_size: b, 1 .. 2^20.
    """
    step = step.astype(jnp.uint32)
    # In halves of 16 digits, of which no product needs more than 32.
    low, high = step & 0xFFFF, step >> 16
    rows_low, rows_high = (
        jnp.uint32(half) for half in (batch_size & 0xFFFF, batch_size >> 16)
    )
    middle = high * rows_low + low * rows_high + ((low * rows_low) >> 16)
    first = step * jnp.uint32(batch_size)
    lower = first + jnp.arange(batch_size, dtype=jnp.uint32)
    upper = high * rows_high + (middle >> 16) + (lower < first).astype(jnp.uint32)
    return jnp.stack([upper, lower], axis=1)


def _keys(key: jax.Array, places: UInt32[Array, "b 2"]) -> jax.Array:
    """A key for each position, typed keys [b]."""

    def of(place):
        return jax.random.fold_in(jax.random.fold_in(key, place[0]), place[1])

    return jax.vmap(of)(places)
