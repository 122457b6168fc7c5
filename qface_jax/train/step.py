"""One update: a pure function, no input or output, no config."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from qface_jax.models import Model, to_float
from qface_jax.objectives.objective import Context, Encoders, Objective
from qface_jax.train.accumulation import in_parts
from qface_jax.train.state import NEVER, TrainState, put_rows, take_rows
from qface_jax.train.update import global_norm, update

IN_LOSS = 1  # folded into a step's key for the chance inside the loss


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    key: jax.Array,
    *,
    model: Model,
    objective: Objective,
    tx: optax.GradientTransformation,
    mesh: Mesh,
    degrade: Callable[..., jax.Array] | None = None,
    accumulation_steps: int = 1,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Returns the state after one update on one global batch, and its metrics.

    Args:
        state: State after `state.step` updates; give its memory away (donate).
        batch: "images" uint8 [b, h, w, 3] RGB, or [b, 2, h, w, 3] with a degraded and
            the original view of each; "labels" int32 [b], -1 for padding. With
            `degrade` the images are as they were decoded, [b, h, w, 3].
        key: The run's training key; the step is folded in here.
        model: Backbone.
        objective: What is minimised.
        tx: Optimizer.
        mesh: Mesh over which batch and class centres are cut.
        degrade: (key, updates done, images) -> the images that the loss sees; None:
            those of the batch.
        accumulation_steps: Parts that the backbone takes the batch in.
    """
    if degrade is not None:
        batch = batch | {"images": degrade(key, state.step, batch["images"])}
    key = jax.random.fold_in(key, state.step)
    key, sample_key, rounding_key = jax.random.split(key, 3)
    # With Partial FC the step sees, and changes, the sampled classes alone.
    sample, names = objective.sample(batch, sample_key), objective.class_rows
    stored = (state.params, state.opt_state)
    seen_params, seen_opt_state = take_rows(stored, sample, mesh, names)

    encode = encoders(model, state.stats, key, accumulation_steps, mesh)
    context = Context(
        state=state.kept,
        head=jax.lax.stop_gradient(state.params["head"]),
        sample=sample,
        key=jax.random.fold_in(key, IN_LOSS),
    )
    gradient = jax.value_and_grad(
        lambda params: objective.loss(encode, params, batch, context), has_aux=True
    )
    (loss, outcome), grads = gradient(seen_params)
    grad_norm = global_norm(grads)
    seen = update(
        tx, grads, seen_opt_state, seen_params, key=rounding_key, sample=sample
    )
    params, opt_state = put_rows(stored, seen, sample, mesh, names)
    new = state.replace(
        step=state.step + 1,
        params=params,
        stats=outcome.stats,
        opt_state=opt_state,
        bad_step=_first_bad(state, loss, grad_norm),
    )
    kept = jax.lax.stop_gradient(outcome.state)
    new = new.with_kept(objective.advance(kept, new.encoder, state.step))
    step_metrics = {"loss": loss, "grad_norm": grad_norm, "bad_step": state.bad_step}
    return new, outcome.metrics | step_metrics


def encoders(
    model: Model, stats: Any, key: jax.Array, parts: int, mesh: Mesh
) -> Encoders:
    """Returns what a loss encodes images with.

    Args:
        model: Backbone.
        stats: Its running statistics before the step.
        key: Key of the dropout.
        parts: Parts that the backbone takes a batch in while it learns.
        mesh: Mesh over which the batch is cut.
    """

    def train(backbone, images, *, feature_map=False):
        apply = model.apply_with_map if feature_map else model.apply
        apply = partial(apply, train=True)
        forward = in_parts(partial(_forward, apply), parts, mesh)
        return forward(backbone, stats, images, key)

    def evaluate(encoder, images):
        apply = partial(model.apply, train=False)
        features, _ = _forward(
            apply, encoder["backbone"], encoder["stats"], images, None
        )
        return jax.lax.stop_gradient(features)

    return Encoders(train, evaluate)


def _forward(apply: Callable[..., Any], params, stats, images, key):
    """Features of images [b, h, w, 3], or of views [b, v, h, w, 3]: [b, (v,) d].

    Or whatever pytree of rows `apply` makes of them.
    """
    views = images.shape[:-3]
    rows = images.reshape(-1, *images.shape[-3:])
    features, stats = apply(params, stats, to_float(rows), key=key)
    return jax.tree.map(lambda x: x.reshape(*views, *x.shape[1:]), features), stats


def _first_bad(state, loss, grad_norm):
    """The first step that was not finite, this one included."""
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    first = (state.bad_step == NEVER) & ~finite
    return jnp.where(first, state.step + 1, state.bad_step)
