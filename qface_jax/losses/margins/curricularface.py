"""CurricularFace: ArcFace's f below pi, and hard negatives that weigh more with time.

A negative is hard where cos_j > cos(theta_y + m); its cosine becomes cos_j (t + cos_j),
with t the moving average of the own cosine. Cosines are clipped to [-1, 1].

References:
    Huang, Wang, Tai, Liu, Shen, Li, Li, Huang. CurricularFace: Adaptive Curriculum
    Learning Loss for Deep Face Recognition. CVPR 2020, eq. 4-6.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qface_jax.losses.margins.margin import (
    Cosines,
    Margin,
    MarginEntry,
    Target,
    add_angle,
    add_angle_below_pi,
    clip_cosine,
    logits,
)
from qface_jax.options import RADIANS, SHARE, Option

OPTIONS = {
    "margin": Option(0.5, RADIANS, "m, added to the angle, radians."),
    "ema_new_weight": Option(0.01, SHARE, "Weight of a batch in the moving average t."),
}


def curricularface(margin: float, ema_new_weight: float) -> Margin:
    """Returns the margin, whose state is t, []; arguments as in `OPTIONS`."""

    def update(t, cos_y, norms, valid):
        count = jnp.sum(valid, dtype=cos_y.dtype)
        cos_y = jnp.where(valid, clip_cosine(cos_y), 0.0)
        mean = jnp.sum(cos_y) / jnp.maximum(count, 1.0)
        weight = jnp.where(count > 0.0, ema_new_weight, 0.0)
        return weight * mean + (1.0 - weight) * t

    def negative(cos_theta, cos_y, t):
        # The comparison and t carry no gradient.
        cos_y = jax.lax.stop_gradient(clip_cosine(cos_y))
        cos = clip_cosine(cos_theta)
        hard = cos > add_angle(cos_y, margin)[:, None]
        return jnp.where(hard, cos * (jax.lax.stop_gradient(t) + cos), cos)

    return Margin(
        lambda cos_y, norms, t: add_angle_below_pi(clip_cosine(cos_y), margin),
        negative,
        init=lambda: jnp.float32(0.0),
        update=update,
        describe=lambda t, norms: {"curricular_t": t},
        state_at=lambda mean_norm, norm_range, mean_cosine: jnp.float32(mean_cosine),
    )


def curricularface_logits(
    cos_theta: Cosines,
    target: Target,
    t: Float[Array, ""],
    *,
    scale: float = 64.0,
    margin: float = 0.5,
) -> Cosines:
    """Returns ArcFace at the target; hard negatives become s cos_j (t + cos_j).

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        t: Moving average of the own cosine, [], already updated with this batch.
        scale: s.
        margin: m, radians.

    Returns:
        Logits, [b, c].
    """
    curricular = curricularface(margin, OPTIONS["ema_new_weight"].default)
    return logits(curricular, cos_theta, target, state=t, scale=scale)


MARGIN = MarginEntry(curricularface, OPTIONS)
