"""One step of the optimizer, in float32 whatever the state is stored in.

Class centres and their momentum may be stored in bfloat16 (`classifier.dtype`). They
are widened element by element for the update and rounded back by chance, so that
updates far smaller than a centre's last digit are kept on average.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from qface_jax.sharded.bfloat16_rows import (
    as_words,
    counted_bits,
    round_to_bfloat16,
    widened,
)
from qface_jax.sharded.class_sample import ClassSample


def global_norm(grads: Any) -> Float[Array, ""]:
    """Returns the norm of all leaves as one vector, in float32."""
    return optax.tree.norm(jax.tree.map(_folded, grads))


def update(
    tx: optax.GradientTransformation,
    grads: Any,
    opt_state: Any,
    params: Any,
    *,
    key: jax.Array,
    sample: ClassSample | None,
) -> tuple[Any, Any]:
    """Returns the new parameters and optimizer state, each leaf in its own type.

    Args:
        tx: Optimizer.
        grads: Gradient, each leaf in the type of its parameter.
        opt_state: State of the optimizer.
        params: Parameters; the bfloat16 ones, and their state, have a row per class.
        key: Key of the rounding of this step.
        sample: Which classes those rows are; None: row j is class j.
    """
    old = (params, opt_state)
    wide_params, wide_state = _widen(old)
    updates, new_state = tx.update(_widen(grads), wide_state, wide_params)
    new = (optax.apply_updates(wide_params, updates), new_state)
    leaves, structure = jax.tree.flatten(new)
    stored = []
    for number, (leaf, was) in enumerate(
        zip(leaves, structure.flatten_up_to(old), strict=True)
    ):
        own_key = jax.random.fold_in(key, number)
        stored.append(_round(leaf, own_key, sample) if _is_narrow(was) else leaf)
    return jax.tree.unflatten(structure, stored)


def _is_narrow(leaf):
    return leaf.dtype == jnp.bfloat16


def _widen(tree):
    return jax.tree.map(lambda leaf: widened(as_words(leaf)), tree)


def _folded(leaf):
    """A float32 array of the same norm."""
    if not _is_narrow(leaf):
        return leaf
    # Not `_widen`: XLA would share the result with the update, and so write it down.
    return jnp.sqrt(jnp.sum(jnp.square(leaf.astype(jnp.float32))))


def _round(leaf, key, sample):
    rows, columns = leaf.shape
    classes = jnp.arange(rows) if sample is None else sample.classes
    return round_to_bfloat16(leaf, counted_bits(key, classes, columns))
