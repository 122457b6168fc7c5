"""The margins as the trainer uses them: one `Margin` a name, with its state.

The streamed classifier never sees [b, c] logits, so a margin is cut into the function
of the target cosine, the function of the other cosines, and a state that is updated
with the target cosines and norms of the global batch before both are used.
A new margin is a function here and a line in `MARGINS`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp

from qface_jax.losses import norm_stats
from qface_jax.losses.margins import margin_functions as fn


class Margin(NamedTuple):
    """A margin function, cut for the streamed classifier.

    Attributes:
        init: () -> state, a pytree of arrays; `()` where there is none.
        update: (state, cos_y [b], norms [b], valid [b]) -> state; no gradient.
        target: (cos_y [b], norms [b], state) -> margined cosine of the own class, [b].
        negative: (cos_theta [b, c], cos_y [b], state) -> cosines of the others, [b, c].
        penalty: (norms [b]) -> added to the loss of each sample, [b].
        describe: (state, norms [b]) -> scalars for the log.
    """

    init: Callable[[], Any]
    update: Callable[..., Any]
    target: Callable[..., Any]
    negative: Callable[..., Any]
    penalty: Callable[..., Any]
    describe: Callable[..., dict]


def _margin(
    target,
    *,
    init=lambda: (),
    update=lambda state, cos_y, norms, valid: state,
    negative=lambda cos_theta, cos_y, state: fn.clip_cosine(cos_theta),
    penalty=jnp.zeros_like,
    describe=lambda state, norms: {},
) -> Margin:
    return Margin(init, update, target, negative, penalty, describe)


def _clipped_negative(cos_theta, cos_y, state):
    return fn.clip_cosine(cos_theta, fn.COS_EPS)


def _softmax() -> Margin:
    return _margin(lambda cos_y, norms, state: fn.softmax_target(cos_y))


def _sphereface(margin: float) -> Margin:
    return _margin(
        lambda cos_y, norms, state: fn.sphereface_target(cos_y, margin=margin)
    )


def _cosface(margin: float) -> Margin:
    return _margin(
        lambda cos_y, norms, state: fn.cosface_target(cos_y, margin=margin),
        negative=_clipped_negative,
    )


def _arcface(margin: float, threshold: bool) -> Margin:
    return _margin(
        lambda cos_y, norms, state: fn.arcface_target(
            cos_y, margin=margin, threshold=threshold
        ),
        negative=_clipped_negative,
    )


def _curricularface(margin: float, ema_new_weight: float) -> Margin:
    def update(t, cos_y, norms, valid):
        count = jnp.sum(valid, dtype=cos_y.dtype)
        cos_y = jnp.where(valid, fn.clip_cosine(cos_y), 0.0)
        mean = jnp.sum(cos_y) / jnp.maximum(count, 1.0)
        weight = jnp.where(count > 0.0, ema_new_weight, 0.0)
        return weight * mean + (1.0 - weight) * t

    return _margin(
        lambda cos_y, norms, t: fn.curricularface_target(cos_y, margin=margin),
        init=lambda: jnp.float32(0.0),
        update=update,
        negative=lambda cos_theta, cos_y, t: fn.curricularface_negative(
            cos_theta, cos_y, t, margin=margin
        ),
        describe=lambda t, norms: {"curricular_t": t},
    )


def _magface(
    l_a: float, u_a: float, l_margin: float, u_margin: float, lambda_g: float
) -> Margin:
    bounds = dict(l_a=l_a, u_a=u_a)
    margins = dict(l_margin=l_margin, u_margin=u_margin)
    return _margin(
        lambda cos_y, norms, state: fn.magface_target(
            cos_y, norms, **bounds, **margins
        ),
        penalty=lambda norms: lambda_g * fn.magface_penalty(norms, **bounds),
    )


def _adaface(margin: float, concentration: float, ema_new_weight: float) -> Margin:
    quality = partial(norm_stats.norm_hat, concentration=concentration)

    def describe(stats, norms):
        return {
            "norm_ema_mean": stats.mean,
            "norm_ema_std": stats.std,
            "norm_hat": jnp.mean(quality(stats, norms)),
        }

    return _margin(
        lambda cos_y, norms, stats: fn.adaface_target(
            cos_y, quality(stats, norms), margin=margin
        ),
        init=norm_stats.init,
        update=lambda stats, cos_y, norms, valid: norm_stats.update(
            stats, norms, valid, ema_new_weight=ema_new_weight
        ),
        negative=_clipped_negative,
        describe=describe,
    )


def _combined(
    m1: float, m2: float, m3: float, filter_threshold: float | None
) -> Margin:
    return _margin(
        lambda cos_y, norms, state: fn.combined_target(cos_y, m1=m1, m2=m2, m3=m3),
        negative=lambda cos_theta, cos_y, state: fn.combined_negative(
            cos_theta, filter_threshold=filter_threshold
        ),
    )


# Each takes the keys of `config.loss.<name>`.
MARGINS: dict[str, Callable[..., Margin]] = {
    "softmax": _softmax,
    "sphereface": _sphereface,
    "cosface": _cosface,
    "arcface": _arcface,
    "curricularface": _curricularface,
    "magface": _magface,
    "adaface": _adaface,
    "combined": _combined,
}
