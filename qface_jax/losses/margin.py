"""Margin softmax: logits of AdaFace and its family, with their true gradients.

Every function takes cosines between unit features and unit class centres and a
boolean `target` that is True at each row's own class. Only the target column changes
(CurricularFace also changes hard negatives); a row without a target keeps its cosines.
The loss is the cross entropy of the logits.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from qface_jax.losses.margins.margin_functions import (
    COS_EPS,
    adaface_target,
    arcface_target,
    clip_cosine,
    combined_negative,
    combined_target,
    cosface_target,
    curricularface_negative,
    curricularface_target,
    magface_target,
    sphereface_target,
)

Cosines = Float[Array, "b c"]
Target = Bool[Array, "b c"]


def _own(cos_theta, target):
    """The target cosine of each row, [b]; 0 where a row has none."""
    return jnp.sum(jnp.where(target, cos_theta, 0.0), axis=-1)


def softmax_logits(
    cos_theta: Cosines, target: Target, *, scale: float = 64.0
) -> Cosines:
    """Returns s cos theta: normalised softmax without a margin (NormFace).

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.

    Returns:
        Logits, [b, c].

    References:
        Wang et al. NormFace. ACM MM 2017.
    """
    del target  # without a margin the own class is like any other
    return scale * clip_cosine(cos_theta)


def sphereface_logits(
    cos_theta: Cosines, target: Target, *, scale: float = 64.0, margin: float = 1.7
) -> Cosines:
    """Returns s psi(theta_y) at the target, s cos theta_j elsewhere.

    psi(theta) = (-1)^k cos(m theta) - 2k, k = floor(m theta / pi).

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.
        margin: m, factor on the angle.

    Returns:
        Logits, [b, c].

    References:
        Liu et al. SphereFace. CVPR 2017, eq. 7.
    """
    own = sphereface_target(cos_theta, margin=margin)
    return scale * jnp.where(target, own, clip_cosine(cos_theta))


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

    References:
        Wang et al. CosFace. CVPR 2018, eq. 4.
    """
    own = cosface_target(cos_theta, margin=margin)
    return scale * jnp.where(target, own, clip_cosine(cos_theta, COS_EPS))


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

    References:
        Deng et al. ArcFace. CVPR 2019, eq. 3.
    """
    own = arcface_target(cos_theta, margin=margin, threshold=threshold)
    return scale * jnp.where(target, own, clip_cosine(cos_theta, COS_EPS))


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
        t: Moving average of the target cosine, [], already updated with this batch.
        scale: s.
        margin: m, radians.

    Returns:
        Logits, [b, c].

    References:
        Huang et al. CurricularFace. CVPR 2020, eq. 4-6.
    """
    cos_y = _own(cos_theta, target)
    others = curricularface_negative(cos_theta, cos_y, t, margin=margin)
    own = curricularface_target(cos_theta, margin=margin)
    return scale * jnp.where(target, own, others)


def magface_logits(
    cos_theta: Cosines,
    target: Target,
    norms: Float[Array, " b"],
    *,
    scale: float = 64.0,
    l_a: float = 10.0,
    u_a: float = 110.0,
    l_margin: float = 0.45,
    u_margin: float = 0.8,
) -> Cosines:
    """Returns s cos(theta_y + m(a)) at the target, s cos theta_j elsewhere.

    The margin grows with the norm a; its gradient reaches the norm. The regulariser
    `magface_penalty` belongs to the loss, not to the logits.

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        norms: Feature norms, [b], with their gradient.
        scale: s.
        l_a: Norm at which the margin is l_margin.
        u_a: Norm at which the margin is u_margin.
        l_margin: Smallest margin, radians.
        u_margin: Largest margin, radians.

    Returns:
        Logits, [b, c].

    References:
        Meng et al. MagFace. CVPR 2021, eq. 3-4.
    """
    cos_y = _own(cos_theta, target)
    own = magface_target(
        cos_y, norms, l_a=l_a, u_a=u_a, l_margin=l_margin, u_margin=u_margin
    )
    return scale * jnp.where(target, own[:, None], clip_cosine(cos_theta))


def adaface_logits(
    cos_theta: Cosines,
    target: Target,
    norm_hat: Float[Array, " b"],
    *,
    scale: float = 64.0,
    margin: float = 0.4,
) -> Cosines:
    """Returns s (cos(theta_y + g_angle) - g_add) at the target, s cos_j elsewhere.

    g_angle = -m norm_hat and g_add = m norm_hat + m: norm_hat = -1 gives ArcFace,
    0 gives CosFace, 1 an ArcFace with a negative angle. theta_y + g_angle is clipped
    to [1e-3, pi - 1e-3].

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        norm_hat: Quality within [-1, 1], [b] (`norm_stats.norm_hat`).
        scale: s.
        margin: m.

    Returns:
        Logits, [b, c].

    References:
        Kim, Jain, Liu. AdaFace. CVPR 2022, eq. 18-19.
    """
    cos_y = _own(cos_theta, target)
    own = adaface_target(cos_y, norm_hat, margin=margin)
    return scale * jnp.where(target, own[:, None], clip_cosine(cos_theta, COS_EPS))


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

    References:
        Deng et al. ArcFace. CVPR 2019, eq. 4; insightface arcface_torch.
    """
    own = combined_target(cos_theta, m1=m1, m2=m2, m3=m3)
    others = combined_negative(cos_theta, filter_threshold=filter_threshold)
    return scale * jnp.where(target, own, others)
