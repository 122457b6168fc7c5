"""One update and one embedding: pure functions, no input or output, no config."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from qface_jax.objectives.objective import Objective
from qface_jax.sharded.arrays import Batch, Metrics
from qface_jax.train.accumulation import in_parts
from qface_jax.train.state import NEVER, TrainState, average, put_rows, take_rows
from qface_jax.train.update import global_norm, update

IN_LOSS = 1  # folded into a step's key for the chance inside the loss


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
        batch: images uint8 [b, h, w, 3] RGB, or [b, 2, h, w, 3] with a degraded and
            the original view of each; labels int32 [b].
        key: The run's training key; the step is folded in here.
        apply: `Model.apply`, or `Model.apply_with_map` where the objective takes the
            feature map.
        objective: What is minimised.
        tx: Optimizer.
        mesh: Mesh over which batch and class centres are cut.
        accumulation_steps: Parts that the backbone takes the batch in.
    """
    key = jax.random.fold_in(key, state.step)
    key, sample_key, rounding_key = jax.random.split(key, 3)
    # With Partial FC the step sees, and changes, the sampled classes alone.
    sample = objective.sample(batch, sample_key)
    whole = (state.params, state.opt_state)
    seen_params, seen_opt_state = take_rows(whole, sample, mesh)

    forward = in_parts(partial(_forward, apply), accumulation_steps, mesh)
    total_loss = _total_loss(state, batch, key, sample, forward, apply, objective)
    gradient = jax.value_and_grad(total_loss, has_aux=True)
    (loss, (stats, aux, metrics)), grads = gradient(seen_params)
    grad_norm = global_norm(grads)
    old = (seen_opt_state, seen_params)
    seen = update(tx, grads, *old, key=rounding_key, sample=sample)
    params, opt_state = put_rows(whole, seen, sample, mesh)
    encoder = {"backbone": params["backbone"], "stats": stats}
    decay = objective.encoder_decay
    state = TrainState(
        step=state.step + 1,
        params=params,
        stats=stats,
        aux=jax.lax.stop_gradient(aux),
        opt_state=opt_state,
        bad_step=_first_bad(state, loss, grad_norm),
        averaged=average(state.averaged, encoder, step=state.step, decay=decay),
        original=state.original,
    )
    found = {"loss": loss, "grad_norm": grad_norm, "bad_step": state.bad_step}
    return state, metrics | found


def _total_loss(state, batch, key, sample, forward, apply, objective):
    """Parameters that the step sees -> loss, and statistics, state and metrics."""
    images, keys = _encoded(apply, state.averaged, batch["images"])
    centres = jax.lax.stop_gradient(state.params["head"].get("centres"))
    loss_key = jax.random.fold_in(key, IN_LOSS)
    if state.original is not None:
        batch = batch | {"original": _second(apply, state.original, batch["images"])}

    def total_loss(params):
        features, stats = forward(params["backbone"], state.stats, images, key)
        if keys is not None:
            features = jnp.stack([features, keys], axis=1)
        loss, aux, metrics = objective.loss(
            features, params["head"], batch, state.aux, sample, centres, loss_key
        )
        return loss, (stats, aux, metrics)

    return total_loss


def _forward(apply, params, stats, images, key):
    """Features of images [b, h, w, 3], or of views [b, v, h, w, 3]: [b, (v,) d].

    Or whatever pytree of rows `apply` makes of them.
    """
    views = images.shape[:-3]
    rows = images.reshape(-1, *images.shape[-3:])
    found, stats = apply(params, stats, to_float(rows), train=True, key=key)
    return jax.tree.map(lambda x: x.reshape(*views, *x.shape[1:]), found), stats


def _encoded(apply, averaged, images):
    """What is left for the encoder, and the second views' features by its average.

    Those are made with the averaged statistics and have no gradient; None without it.
    """
    if averaged is None:
        return images, None
    return images[:, 0], _second(apply, averaged, images)


def _second(apply, encoder, images):
    """Features of the second views by another encoder, without gradient."""
    second = to_float(images[:, 1])
    backbone, stats = encoder["backbone"], encoder["stats"]
    features, _ = apply(backbone, stats, second, train=False, key=None)
    return jax.lax.stop_gradient(features)


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
