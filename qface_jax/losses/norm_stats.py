"""Feature norm as image quality: its running statistics and the standardised norm.

Other proxies of image quality are standardised the same way, but not clipped.

References:
    Kim, Jain, Liu. AdaFace: Quality Adaptive Margin for Face Recognition. CVPR 2022,
    eq. 16-17.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MIN_NORM, MAX_NORM = 1e-3, 100.0
Limits = tuple[float, float]
LIMITS: Limits = (MIN_NORM, MAX_NORM)


class NormStats(NamedTuple):
    """Exponential moving average of the statistics of feature norms, or other proxies.

    Attributes:
        mean: Mean of the values, [].
        std: Unbiased standard deviation of the values, [].
    """

    mean: Float[Array, ""]
    std: Float[Array, ""]


def init(mean: float = 20.0, std: float = 100.0) -> NormStats:
    """Returns the statistics before the first step.

    Args:
        mean: A mean that the values may have; the default is AdaFace's, of norms.
        std: Far more than their deviation, so that the first steps have a standardised
            value near 0.
    """
    return NormStats(mean=jnp.float32(mean), std=jnp.float32(std))


def _clipped(values, limits):
    return values if limits is None else jnp.clip(values, *limits)


def feature_norms(features: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns the quality proxy: ||features||, clipped, without gradient.

    norms = stop_gradient(clip(||features||_2, 1e-3, 100))

    Args:
        features: Raw output of the backbone, [b, d].

    Returns:
        Norms within [1e-3, 100], [b].
    """
    squared = jnp.sum(jax.lax.stop_gradient(features) ** 2, axis=-1)
    return jnp.clip(jnp.sqrt(squared), MIN_NORM, MAX_NORM)


def update(
    stats: NormStats,
    norms: Float[Array, " b"],
    valid: Bool[Array, " b"] | None = None,
    *,
    ema_new_weight: float = 0.01,
    limits: Limits | None = LIMITS,
) -> NormStats:
    """Moves the statistics towards those of this batch.

    mean <- w mean(norms) + (1 - w) mean, and the same for the unbiased std, with
    w = ema_new_weight. The paper's momentum alpha is 1 - w.

    Under jit on a mesh `norms` is the global batch, so the statistics are global;
    PyTorch code under DDP keeps those of each process.

    Args:
        stats: Statistics so far.
        norms: Norms, or other values, of the batch, [b].
        valid: Rows that count, [b]; all when None. With fewer than two the
            statistics stay as they are.
        ema_new_weight: Weight of the new value, in [0, 1].
        limits: What the values are clipped to first; None: they are not.

    Returns:
        The new statistics, without gradient.
    """
    norms = _clipped(jax.lax.stop_gradient(norms), limits)
    valid = jnp.ones(norms.shape, bool) if valid is None else valid
    count = jnp.sum(valid, dtype=norms.dtype)
    mean = jnp.sum(jnp.where(valid, norms, 0.0)) / jnp.maximum(count, 1.0)
    deviation = jnp.where(valid, norms - mean, 0.0)
    std = jnp.sqrt(jnp.sum(deviation**2) / jnp.maximum(count - 1.0, 1.0))
    weight = jnp.where(count >= 2.0, ema_new_weight, 0.0)
    return NormStats(
        mean=weight * mean + (1.0 - weight) * stats.mean,
        std=weight * std + (1.0 - weight) * stats.std,
    )


def norm_hat(
    stats: NormStats,
    norms: Float[Array, " b"],
    *,
    concentration: float = 0.333,
    limits: Limits | None = LIMITS,
) -> Float[Array, " b"]:
    """Returns the standardised norm, the image quality indicator of eq. 16.

    norm_hat = clip(h (norms - mean) / (std + 1e-3), -1, 1), gradient stopped.

    Args:
        stats: Statistics, already updated with this batch.
        norms: Norms, or other values, [b].
        concentration: h, how much of the distribution lies within [-1, 1].
        limits: As of `update`.

    Returns:
        Quality within [-1, 1], [b]; larger is better.
    """
    norms = _clipped(norms, limits)
    standardised = (norms - stats.mean) / (stats.std + 1e-3)
    return jax.lax.stop_gradient(jnp.clip(standardised * concentration, -1.0, 1.0))
