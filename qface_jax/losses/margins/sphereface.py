"""SphereFace: f = psi(theta) = (-1)^k cos(m theta) - 2k, k = floor(m theta / pi).

References:
    Liu, Wen, Yu, Li, Raj, Song. SphereFace: Deep Hypersphere Embedding for Face
    Recognition. CVPR 2017, eq. 7.
"""

import jax
import jax.numpy as jnp

from qface_jax.losses.margins.margin import (
    Cosines,
    Margin,
    MarginEntry,
    Target,
    angle,
    clip_cosine,
    logits,
)
from qface_jax.options import Option, Rule

OPTIONS = {
    "margin": Option(
        1.7, Rule(lambda v: v >= 1, "must be >= 1"), "m, factor on the angle."
    )
}


def sphereface(margin: float) -> Margin:
    """Returns the margin; arguments as in `OPTIONS`."""

    def target(cos_y, norms, state):
        m_theta = margin * angle(clip_cosine(cos_y))
        k = jnp.floor(jax.lax.stop_gradient(m_theta) / jnp.pi)
        sign = 1.0 - 2.0 * jnp.mod(k, 2.0)
        return sign * jnp.cos(m_theta) - 2.0 * k

    return Margin(target)


def sphereface_logits(
    cos_theta: Cosines, target: Target, *, scale: float = 64.0, margin: float = 1.7
) -> Cosines:
    """Returns s psi(theta_y) at the target, s cos theta_j elsewhere.

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.
        margin: m, factor on the angle.

    Returns:
        Logits, [b, c].
    """
    return logits(sphereface(margin), cos_theta, target, scale=scale)


MARGIN = MarginEntry(sphereface, OPTIONS)
