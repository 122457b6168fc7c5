"""The combined margin: f = cos(m1 theta + m2) - m3.

A negative that is very similar is probably the same person under another label; as in
insightface its logit may be set to 0, which carries no gradient.

References:
    Deng, Guo, Xue, Zafeiriou. ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition. CVPR 2019, eq. 4; insightface arcface_torch.
"""

import jax.numpy as jnp

from qface_jax.losses.margins.margin import (
    Cosines,
    Margin,
    MarginEntry,
    Target,
    add_angle,
    angle,
    clip_cosine,
    logits,
)
from qface_jax.options import Option

OPTIONS = {
    "m1": Option(1.0, None, "Factor on the angle."),
    "m2": Option(0.0, None, "Added to the angle, radians."),
    "m3": Option(0.4, None, "Taken off the cosine."),
    "filter_threshold": Option(
        None,
        None,
        "Cosine above which a negative is dropped as mislabelled; None: off.",
        kind=float,
    ),
}


def combined(m1: float, m2: float, m3: float, filter_threshold: float | None) -> Margin:
    """Returns the margin; arguments as in `OPTIONS`."""

    def target(cos_y, norms, state):
        cos = clip_cosine(cos_y)
        if m1 == 1.0:
            return add_angle(cos, m2) - m3
        return jnp.cos(m1 * angle(cos) + m2) - m3

    def negative(cos_theta, cos_y, state):
        cos = clip_cosine(cos_theta)
        if filter_threshold is None:
            return cos
        return jnp.where(cos > filter_threshold, 0.0, cos)

    return Margin(target, negative)


def combined_logits(
    cos_theta: Cosines,
    target: Target,
    *,
    scale: float = 64.0,
    m1: float = 1.0,
    m2: float = 0.0,
    m3: float = 0.4,
    filter_threshold: float | None = None,
) -> Cosines:
    """Returns s (cos(m1 theta_y + m2) - m3) at the target, s cos theta_j elsewhere.

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.
        m1: Factor on the angle.
        m2: Added to the angle, radians.
        m3: Taken off the cosine.
        filter_threshold: Cosine above which a negative's logit becomes 0; None: off.

    Returns:
        Logits, [b, c].
    """
    margin = combined(m1, m2, m3, filter_threshold)
    return logits(margin, cos_theta, target, scale=scale)


MARGIN = MarginEntry(combined, OPTIONS)
