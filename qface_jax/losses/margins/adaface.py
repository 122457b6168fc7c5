"""AdaFace: a margin that adapts to the image quality, read from a proxy of it.

f = cos(theta + g_angle) - g_add, g_angle = -m q and g_add = m q + m, with q the
standardised proxy, the feature norm by default, within [-1, 1]. q = -1 gives ArcFace,
0 gives CosFace, 1 an ArcFace with a negative angle.

References:
    Kim, Jain, Liu. AdaFace: Quality Adaptive Margin for Face Recognition. CVPR 2022,
    eq. 16-19; Table 1, the proxies.
"""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from qface_jax.losses import norm_stats
from qface_jax.losses.margins.margin import (
    BRISQUE,
    COS_EPS,
    NORM,
    PROBABILITY,
    Cosines,
    Margin,
    MarginEntry,
    Target,
    angle,
    clip_cosine,
    logits,
    unchanged_eps,
)
from qface_jax.options import NOT_NEGATIVE, SHARE, Option, one_of

OPTIONS = {
    "margin": Option(0.4, SHARE, "m."),
    "concentration": Option(0.333, NOT_NEGATIVE, "h."),
    "ema_new_weight": Option(0.01, SHARE, "The paper's 1 - alpha."),
    "proxy": Option(
        NORM,
        one_of(NORM, BRISQUE, PROBABILITY),
        "What the margin reads the image quality from: norm, of the feature; brisque, "
        "1 - BRISQUE / 100 of the training image as degraded; probability, of the own "
        "class by a softmax without margin over the classes that the step sees.",
    ),
}
# Of a proxy whose values lie about within 0..1, before the first step; as with norms,
# the deviation is five times the mean, so that training starts as CosFace.
_SHARE_MEAN, _SHARE_STD = 0.5, 2.5


def _target(cos_y, norm_hat, margin):
    theta = angle(clip_cosine(cos_y, COS_EPS))
    shifted = jnp.clip(theta - margin * norm_hat, COS_EPS, jnp.pi - COS_EPS)
    return jnp.cos(shifted) - (margin * norm_hat + margin)


def adaface(
    margin: float, concentration: float, ema_new_weight: float, proxy: str = NORM
) -> Margin:
    """Returns the margin, whose state is a NormStats; arguments as in `OPTIONS`.

    Clipping to [1e-3, 100] belongs to the norm; the other proxies are standardised as
    they are. The paper's scores of BRISQUE were computed once, from images that are not
    augmented; here they are those of the augmented images.
    """
    of_norm = proxy == NORM
    limits = norm_stats.LIMITS if of_norm else None
    quality = partial(norm_stats.norm_hat, concentration=concentration, limits=limits)
    name = "norm" if of_norm else "proxy"

    def init():
        return norm_stats.init(*(() if of_norm else (_SHARE_MEAN, _SHARE_STD)))

    def describe(stats, values):
        return {
            f"{name}_ema_mean": stats.mean,
            f"{name}_ema_std": stats.std,
            f"{name}_hat": jnp.mean(quality(stats, values)),
        }

    def state_at(mean_norm, norm_range, mean_cosine):
        # norm_hat adds 1e-3 to the deviation; with h = 0 it is 0 whatever the norm.
        std = max(norm_range * concentration, 1e-3) - 1e-3
        return norm_stats.NormStats(jnp.float32(mean_norm), jnp.float32(std))

    return Margin(
        lambda cos_y, values, stats: _target(cos_y, quality(stats, values), margin),
        unchanged_eps,
        init=init,
        update=lambda stats, cos_y, values, valid: norm_stats.update(
            stats, values, valid, ema_new_weight=ema_new_weight, limits=limits
        ),
        describe=describe,
        state_at=state_at,
        proxy=proxy,
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
