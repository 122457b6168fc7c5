"""One update and one embedding: pure functions, no input or output, no config."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from qface_jax.arrays import Batch, Metrics
from qface_jax.train.accumulation import in_parts
from qface_jax.train.objective import Objective
from qface_jax.train.state import NEVER, TrainState, put_rows, take_rows
from qface_jax.train.update import global_norm, update


def to_float(images: UInt8[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Returns x / 127.5 - 1: bytes in [0, 255] to floats in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    apply: Callable[..., Any],
    objective: Objective,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    accumulation_steps: int = 1,
) -> tuple[TrainState, Metrics]:
    """Returns the state after one update on one global batch, and its metrics.

    Args:
        state: State after `state.step` updates; give its memory away (donate).
        batch: images uint8 [b, h, w, 3] RGB, labels int32 [b].
        key: The run's training key; the step is folded in here.
        apply: `Model.apply`.
        objective: What is minimised.
        tx: Optimizer.
        mesh: Mesh over which batch and class centres are cut.
        accumulation_steps: Parts that the backbone takes the batch in.
    """
    keys = jax.random.split(jax.random.fold_in(key, state.step), 3)
    key, sample_key, rounding_key = keys
    # With Partial FC the step sees, and changes, the sampled classes alone.
    sample = objective.sample(batch, sample_key)
    whole = (state.params, state.opt_state)
    seen_params, seen_opt_state = take_rows(whole, sample, mesh)

    forward = in_parts(partial(_forward, apply), accumulation_steps, mesh)

    def total_loss(params):
        features, stats = forward(params["backbone"], state.stats, batch["images"], key)
        loss, aux, metrics = objective.loss(
            features, params["head"], batch, state.aux, sample
        )
        return loss, (stats, aux, metrics)

    (loss, (stats, aux, metrics)), grads = jax.value_and_grad(total_loss, has_aux=True)(
        seen_params
    )
    grad_norm = global_norm(grads)
    seen = update(
        tx, grads, seen_opt_state, seen_params, key=rounding_key, sample=sample
    )
    params, opt_state = put_rows(whole, seen, sample, mesh)
    state = state.replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        stats=stats,
        aux=jax.lax.stop_gradient(aux),
        bad_step=_first_bad(state, loss, grad_norm),
    )
    return state, metrics | {
        "loss": loss,
        "grad_norm": grad_norm,
        "bad_step": state.bad_step,
    }


def _forward(apply, params, stats, images, key):
    return apply(params, stats, to_float(images), train=True, key=key)


def _first_bad(state, loss, grad_norm):
    """The first step that was not finite, this one included."""
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    first = (state.bad_step == NEVER) & ~finite
    return jnp.where(first, state.step + 1, state.bad_step)


def embed_step(
    backbone: Any,
    stats: Any,
    images: UInt8[Array, "b h w 3"],
    *,
    apply: Callable[..., Any],
) -> Float[Array, "b d"]:
    """Returns raw features of images with the running statistics, [b, d] float32."""
    features, _ = apply(backbone, stats, to_float(images), train=False, key=None)
    return features
