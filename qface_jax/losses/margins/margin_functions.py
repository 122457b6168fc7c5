"""Margin functions f(cos theta_y) of AdaFace and its family, without the scale.

`margin.py` makes logits of them; the streamed classifier and the GST analysis use them
directly. The cosines are clipped as in the published code: to [-1 + 1e-3, 1 - 1e-3] for
CosFace, ArcFace and AdaFace (AdaFace's repository), to [-1, 1] for the others.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Cosines = Float[Array, "b c"]

COS_EPS = 1e-3  # distance that AdaFace's repository keeps from |cos| = 1
SINE_EPS = 1e-7  # 1 - cos^2 below which the sine's gradient is taken as 0


def clip_cosine(cos: Float[Array, "..."], eps: float = 0.0) -> Float[Array, "..."]:
    """Returns the cosine within [-1 + eps, 1 - eps]; no gradient where clipped."""
    return jnp.clip(cos, -1.0 + eps, 1.0 - eps)


def sine(cos: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns sqrt(1 - cos^2) for cos in [-1, 1], with a finite gradient everywhere."""
    squared = 1.0 - cos**2
    # The inner where keeps the infinite slope of sqrt at 0 out of the backward pass.
    inside = squared > SINE_EPS
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, squared, 1.0)), 0.0)


def angle(cos: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns arccos(cos) in [0, pi], with a finite gradient everywhere."""
    squared = 1.0 - cos**2
    inside = squared > SINE_EPS
    theta = jnp.arccos(jnp.where(inside, cos, 0.0))
    return jnp.where(inside, theta, jnp.where(cos > 0, 0.0, jnp.pi))


def softmax_target(cos_y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns f = cos theta: no margin (NormFace)."""
    return clip_cosine(cos_y)


def sphereface_target(
    cos_y: Float[Array, "..."], *, margin: float = 1.7
) -> Float[Array, "..."]:
    """Returns f = psi(theta) = (-1)^k cos(m theta) - 2k, k = floor(m theta / pi)."""
    m_theta = margin * angle(clip_cosine(cos_y))
    k = jnp.floor(jax.lax.stop_gradient(m_theta) / jnp.pi)
    sign = 1.0 - 2.0 * jnp.mod(k, 2.0)
    return sign * jnp.cos(m_theta) - 2.0 * k


def cosface_target(
    cos_y: Float[Array, "..."], *, margin: float = 0.35
) -> Float[Array, "..."]:
    """Returns f = cos theta - m."""
    return clip_cosine(cos_y, COS_EPS) - margin


def _add_angle(cos, margin):
    """cos(theta + m) without arccos: cos theta cos m - sin theta sin m."""
    return cos * jnp.cos(margin) - sine(cos) * jnp.sin(margin)


def _add_angle_below_pi(cos, margin):
    """cos(theta + m), and cos theta - m sin m where theta + m would pass pi."""
    past_pi = cos <= jnp.cos(jnp.pi - margin)
    return jnp.where(past_pi, cos - margin * jnp.sin(margin), _add_angle(cos, margin))


def arcface_target(
    cos_y: Float[Array, "..."], *, margin: float = 0.5, threshold: bool = False
) -> Float[Array, "..."]:
    """Returns f = cos(theta + m).

    With `threshold`, cos theta - m sin m where theta + m > pi, which keeps f
    decreasing in theta over [0, pi].
    """
    cos = clip_cosine(cos_y, COS_EPS)
    return (_add_angle_below_pi if threshold else _add_angle)(cos, margin)


def curricularface_target(
    cos_y: Float[Array, "..."], *, margin: float = 0.5
) -> Float[Array, "..."]:
    """Returns ArcFace's f with the threshold rule, cosines clipped to [-1, 1]."""
    return _add_angle_below_pi(clip_cosine(cos_y), margin)


def curricularface_negative(
    cos_theta: Cosines,
    cos_y: Float[Array, " b"],
    t: Float[Array, ""],
    *,
    margin: float = 0.5,
) -> Cosines:
    """Returns CurricularFace's cosines of the other classes: hard ones are scaled.

    cos_j (t + cos_j) where cos_j > cos(theta_y + m), else cos_j. The comparison and t
    carry no gradient.
    """
    cos_y = jax.lax.stop_gradient(clip_cosine(cos_y))
    hard = clip_cosine(cos_theta) > _add_angle(cos_y, margin)[:, None]
    cos = clip_cosine(cos_theta)
    return jnp.where(hard, cos * (jax.lax.stop_gradient(t) + cos), cos)


def magface_margin(
    norms: Float[Array, " b"],
    *,
    l_a: float = 10.0,
    u_a: float = 110.0,
    l_margin: float = 0.45,
    u_margin: float = 0.8,
) -> Float[Array, " b"]:
    """Returns m(a), linear from l_margin at norm l_a to u_margin at norm u_a."""
    a = jnp.clip(norms, l_a, u_a)
    return (u_margin - l_margin) / (u_a - l_a) * (a - l_a) + l_margin


def magface_target(
    cos_y: Float[Array, " b"],
    norms: Float[Array, " b"],
    *,
    l_a: float = 10.0,
    u_a: float = 110.0,
    l_margin: float = 0.45,
    u_margin: float = 0.8,
) -> Float[Array, " b"]:
    """Returns f = cos(theta + m(a)) where cos theta > 0, else cos theta (easy margin).

    Args:
        cos_y: Cosine to the own class, [b].
        norms: Feature norms with their gradient, [b].
        l_a: Norm at which the margin is l_margin.
        u_a: Norm at which the margin is u_margin.
        l_margin: Smallest margin, radians.
        u_margin: Largest margin, radians.
    """
    cos = clip_cosine(cos_y)
    margin = magface_margin(
        norms, l_a=l_a, u_a=u_a, l_margin=l_margin, u_margin=u_margin
    )
    return jnp.where(cos > 0.0, _add_angle(cos, margin), cos)


def magface_penalty(
    norms: Float[Array, " b"], *, l_a: float = 10.0, u_a: float = 110.0
) -> Float[Array, " b"]:
    """Returns MagFace's regulariser g(a) = a / u_a^2 + 1 / a, a = clip(norm)."""
    a = jnp.clip(norms, l_a, u_a)
    return a / u_a**2 + 1.0 / a


def adaface_target(
    cos_y: Float[Array, "..."], norm_hat: Float[Array, "..."], *, margin: float = 0.4
) -> Float[Array, "..."]:
    """Returns f = cos(clip(theta - m q, 1e-3, pi - 1e-3)) - (m q + m), q = norm_hat."""
    theta = angle(clip_cosine(cos_y, COS_EPS))
    shifted = jnp.clip(theta - margin * norm_hat, COS_EPS, jnp.pi - COS_EPS)
    return jnp.cos(shifted) - (margin * norm_hat + margin)


def combined_target(
    cos_y: Float[Array, "..."], *, m1: float = 1.0, m2: float = 0.0, m3: float = 0.4
) -> Float[Array, "..."]:
    """Returns f = cos(m1 theta + m2) - m3 (insightface's combined margin)."""
    cos = clip_cosine(cos_y)
    if m1 == 1.0:
        return _add_angle(cos, m2) - m3
    return jnp.cos(m1 * angle(cos) + m2) - m3


def combined_negative(
    cos_theta: Cosines, *, filter_threshold: float | None = None
) -> Cosines:
    """Returns the cosines of the other classes; those above the threshold become 0.

    A negative that is very similar is probably the same person under another label;
    as in insightface its logit is set to 0 and carries no gradient.
    """
    cos = clip_cosine(cos_theta)
    if filter_threshold is None:
        return cos
    return jnp.where(cos > filter_threshold, 0.0, cos)
