"""CosFace: f = cos theta - m.

References:
    Wang, Wang, Zhou, Ji, Gong, Zhou, Li, Liu. CosFace: Large Margin Cosine Loss for
    Deep Face Recognition. CVPR 2018, eq. 4.
"""

from qface_jax.losses.margins.margin import (
    COS_EPS,
    Cosines,
    Margin,
    MarginEntry,
    Target,
    clip_cosine,
    logits,
    unchanged_eps,
)
from qface_jax.options import SHARE, Option

OPTIONS = {"margin": Option(0.35, SHARE, "m, taken off the cosine.")}


def cosface(margin: float) -> Margin:
    """Returns the margin; arguments as in `OPTIONS`."""
    return Margin(
        lambda cos_y, norms, state: clip_cosine(cos_y, COS_EPS) - margin,
        unchanged_eps,
    )


def cosface_logits(
    cos_theta: Cosines, target: Target, *, scale: float = 64.0, margin: float = 0.35
) -> Cosines:
    """Returns s (cos theta_y - m) at the target, s cos theta_j elsewhere.

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.
        margin: m, taken off the cosine.

    Returns:
        Logits, [b, c].
    """
    return logits(cosface(margin), cos_theta, target, scale=scale)


MARGIN = MarginEntry(cosface, OPTIONS)
