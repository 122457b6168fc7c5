"""Schedule and optimizer from the config, with the update rules of the references."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from qface_jax.settings import rate_factors
from qface_jax.train import parameter_groups

# Only these leaves decay: not biases, norms' scales or PReLU slopes.
DECAYED = frozenset({"kernel", "centres"})


class Length(NamedTuple):
    """A run's length and the schedule's landmarks, in updates."""

    total_steps: int
    warmup_steps: int
    decay_steps: tuple[int, ...]


def length(config: ConfigDict, images: int) -> Length:
    """Returns the run's length in updates; epochs are passes over `images` images."""

    def steps(epochs):
        return math.ceil(epochs * images / config.data.batch_size)

    optim = config.optim
    if config.epochs is None:
        return Length(config.total_steps, optim.warmup_steps, tuple(optim.decay_steps))
    warmup = steps(optim.warmup_epochs or 0.0)
    return Length(
        steps(config.epochs), warmup, tuple(steps(e) for e in optim.decay_epochs)
    )


def _constant(optim: ConfigDict, length: Length) -> optax.Schedule:
    return optax.constant_schedule(optim.learning_rate)


def _step(optim: ConfigDict, length: Length) -> optax.Schedule:
    return optax.piecewise_constant_schedule(
        optim.learning_rate,
        # join_schedules counts from the end of the warm-up.
        {
            s - length.warmup_steps: optim.decay_factor ** length.decay_steps.count(s)
            for s in length.decay_steps
        },
    )


def _cosine(optim: ConfigDict, length: Length) -> optax.Schedule:
    return optax.cosine_decay_schedule(
        optim.learning_rate,
        max(length.total_steps - length.warmup_steps, 1),
        alpha=optim.end_factor,
    )


def _polynomial(optim: ConfigDict, length: Length) -> optax.Schedule:
    return optax.polynomial_schedule(
        optim.learning_rate,
        optim.learning_rate * optim.end_factor,
        optim.power,
        max(length.total_steps - length.warmup_steps, 1),
    )


SCHEDULES: dict[str, Callable[[ConfigDict, Length], optax.Schedule]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "polynomial": _polynomial,
}


def schedule(optim: ConfigDict, length: Length) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates done."""
    after = SCHEDULES[optim.schedule](optim, length)
    if not length.warmup_steps:
        return after
    warmup = optax.linear_schedule(0.0, optim.learning_rate, length.warmup_steps)
    return optax.join_schedules([warmup, after], [length.warmup_steps])


def decayed(params: Any) -> Any:
    """Returns True for each leaf that weight decay acts on."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in DECAYED, params
    )


def scale_by_adagrad(
    initial_accumulator: float, eps: float
) -> optax.GradientTransformation:
    """Returns AdaGrad as PyTorch has it, and Keras before TensorFlow 2.11.

    The update is g / (sqrt(S) + eps), S the sum of the squared gradients so far, this
    one among them. `optax.scale_by_rss` has g / sqrt(S + eps), which at the eps of 1
    of the octuplet loss is another step.

    Args:
        initial_accumulator: What S starts from, at least 0.
        eps: Above 0.
    """

    def init(params):
        sums = jax.tree.map(lambda x: jnp.full_like(x, initial_accumulator), params)
        return optax.ScaleByRssState(sums)

    def update(gradients, state, params=None):
        sums = jax.tree.map(
            lambda total, g: total + jnp.square(g).astype(total.dtype),
            state.sum_of_squares,
            gradients,
        )
        steps = jax.tree.map(
            lambda g, total: g / (jnp.sqrt(total) + eps), gradients, sums
        )
        return steps, optax.ScaleByRssState(sums)

    return optax.GradientTransformation(init, update)


def _sgd(optim: ConfigDict) -> list[optax.GradientTransformation]:
    # As torch: the decay is part of the gradient, the rate acts after the momentum.
    return [
        optax.add_decayed_weights(optim.weight_decay, mask=decayed),
        optax.trace(decay=optim.momentum),
    ]


def _adam(optim: ConfigDict) -> list[optax.GradientTransformation]:
    return [
        optax.add_decayed_weights(optim.weight_decay, mask=decayed),
        optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps),
    ]


def _adamw(optim: ConfigDict) -> list[optax.GradientTransformation]:
    return [
        optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps),
        optax.add_decayed_weights(optim.weight_decay, mask=decayed),
    ]


def _adagrad(optim: ConfigDict) -> list[optax.GradientTransformation]:
    return [
        optax.add_decayed_weights(optim.weight_decay, mask=decayed),
        scale_by_adagrad(optim.initial_accumulator, optim.eps),
    ]


OPTIMIZERS: dict[str, Callable[[ConfigDict], list[optax.GradientTransformation]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adagrad": _adagrad,
}


def build(
    optim: ConfigDict, length: Length
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimizer and its learning rate as a function of the step.

    Args:
        optim: `config.optim`, validated.
        length: The run's length and landmarks, in updates.
    """
    rate = schedule(optim, length)
    parts = OPTIMIZERS[optim.name](optim)
    if optim.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(optim.clip_norm))
    groups = rate_factors.parse(optim.rate_factors)
    if groups:
        parts.append(parameter_groups.scale(groups))
    return optax.chain(*parts, optax.scale_by_learning_rate(rate)), rate
