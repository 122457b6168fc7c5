"""ArcFace: f = cos(theta + m).

References:
    Deng, Guo, Xue, Zafeiriou. ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition. CVPR 2019, eq. 3.
"""

from qface_jax.losses.margins.margin import (
    COS_EPS,
    Cosines,
    Margin,
    MarginEntry,
    Target,
    add_angle,
    add_angle_below_pi,
    clip_cosine,
    logits,
    unchanged_eps,
)
from qface_jax.options import RADIANS, Option

OPTIONS = {
    "margin": Option(0.5, RADIANS, "m, added to the angle, radians."),
    "threshold": Option(False, None, "CosFace-like beyond pi."),
}


def arcface(margin: float, threshold: bool) -> Margin:
    """Returns the margin; arguments as in `OPTIONS`."""
    add = add_angle_below_pi if threshold else add_angle
    return Margin(
        lambda cos_y, norms, state: add(clip_cosine(cos_y, COS_EPS), margin),
        unchanged_eps,
    )


def arcface_logits(
    cos_theta: Cosines,
    target: Target,
    *,
    scale: float = 64.0,
    margin: float = 0.5,
    threshold: bool = False,
) -> Cosines:
    """Returns s cos(theta_y + m) at the target, s cos theta_j elsewhere.

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.
        margin: m, radians.
        threshold: Use s (cos theta_y - m sin m) where theta_y + m > pi.

    Returns:
        Logits, [b, c].
    """
    return logits(arcface(margin, threshold), cos_theta, target, scale=scale)


MARGIN = MarginEntry(arcface, OPTIONS)
