"""AdaFace: a margin that adapts to the image quality, read from the feature norm.

f = cos(theta + g_angle) - g_add, g_angle = -m q and g_add = m q + m, with q the
standardised norm within [-1, 1]. q = -1 gives ArcFace, 0 gives CosFace, 1 an ArcFace
with a negative angle.

References:
    Kim, Jain, Liu. AdaFace: Quality Adaptive Margin for Face Recognition. CVPR 2022,
    eq. 16-19.
"""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from qface_jax.losses import norm_stats
from qface_jax.losses.margins.margin import (
    COS_EPS,
    Cosines,
    Margin,
    MarginEntry,
    Target,
    angle,
    clip_cosine,
    logits,
    unchanged_eps,
)
from qface_jax.options import NOT_NEGATIVE, SHARE, Option

OPTIONS = {
    "margin": Option(0.4, SHARE, "m."),
    "concentration": Option(0.333, NOT_NEGATIVE, "h."),
    "ema_new_weight": Option(0.01, SHARE, "The paper's 1 - alpha."),
}


def _target(cos_y, norm_hat, margin):
    theta = angle(clip_cosine(cos_y, COS_EPS))
    shifted = jnp.clip(theta - margin * norm_hat, COS_EPS, jnp.pi - COS_EPS)
    return jnp.cos(shifted) - (margin * norm_hat + margin)


def adaface(margin: float, concentration: float, ema_new_weight: float) -> Margin:
    """Returns the margin, whose state is a NormStats; arguments as in `OPTIONS`."""
    quality = partial(norm_stats.norm_hat, concentration=concentration)

    def describe(stats, norms):
        return {
            "norm_ema_mean": stats.mean,
            "norm_ema_std": stats.std,
            "norm_hat": jnp.mean(quality(stats, norms)),
        }

    def state_at(mean_norm, norm_range, mean_cosine):
        # norm_hat adds 1e-3 to the deviation; with h = 0 it is 0 whatever the norm.
        std = max(norm_range * concentration, 1e-3) - 1e-3
        return norm_stats.NormStats(jnp.float32(mean_norm), jnp.float32(std))

    return Margin(
        lambda cos_y, norms, stats: _target(cos_y, quality(stats, norms), margin),
        unchanged_eps,
        init=norm_stats.init,
        update=lambda stats, cos_y, norms, valid: norm_stats.update(
            stats, norms, valid, ema_new_weight=ema_new_weight
        ),
        describe=describe,
        state_at=state_at,
    )


def adaface_logits(
    cos_theta: Cosines,
    target: Target,
    norm_hat: Float[Array, " b"],
    *,
    scale: float = 64.0,
    margin: float = 0.4,
) -> Cosines:
    """Returns s (cos(theta_y + g_angle) - g_add) at the target, s cos_j elsewhere.

    g_angle = -m norm_hat and g_add = m norm_hat + m; theta_y + g_angle is clipped to
    [1e-3, pi - 1e-3].

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        norm_hat: Quality within [-1, 1], [b] (`norm_stats.norm_hat`).
        scale: s.
        margin: m.

    Returns:
        Logits, [b, c].
    """
    of_quality = Margin(
        lambda cos_y, norms, state: _target(cos_y, norm_hat, margin), unchanged_eps
    )
    return logits(of_quality, cos_theta, target, scale=scale)


MARGIN = MarginEntry(adaface, OPTIONS)
