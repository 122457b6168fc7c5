"""MagFace: f = cos(theta + m(a)), whose margin m grows with the feature norm a.

m(a) is linear from l_margin at norm l_a to u_margin at norm u_a. Where cos theta <= 0
the cosine stays as it is (easy margin). The gradient of the margin reaches the norm; a
regulariser g(a) = a / u_a^2 + 1 / a, weighted by lambda_g, keeps norms large.

References:
    Meng, Zhao, Huang, Zhou. MagFace: A Universal Representation for Face Recognition
    and Quality Assessment. CVPR 2021, eq. 3-4.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qface_jax.losses.margins.margin import (
    Cosines,
    Margin,
    MarginEntry,
    Target,
    add_angle,
    clip_cosine,
    logits,
)
from qface_jax.options import NOT_NEGATIVE, POSITIVE, RADIANS, Option

OPTIONS = {
    "l_a": Option(10.0, POSITIVE, "Norm at which the margin is l_margin."),
    "u_a": Option(110.0, None, "Norm at which the margin is u_margin."),
    "l_margin": Option(0.45, RADIANS, "Smallest margin, radians."),
    "u_margin": Option(0.8, RADIANS, "Largest margin, radians."),
    "lambda_g": Option(20.0, NOT_NEGATIVE, "Weight of the norm regulariser."),
}


def magface(
    l_a: float, u_a: float, l_margin: float, u_margin: float, lambda_g: float
) -> Margin:
    """Returns the margin; arguments as in `OPTIONS`."""

    def target(cos_y, norms, state):
        cos, a = clip_cosine(cos_y), jnp.clip(norms, l_a, u_a)
        margin = (u_margin - l_margin) / (u_a - l_a) * (a - l_a) + l_margin
        return jnp.where(cos > 0.0, add_angle(cos, margin), cos)

    return Margin(
        target,
        penalty=lambda norms: lambda_g * magface_penalty(norms, l_a=l_a, u_a=u_a),
    )


def magface_penalty(
    norms: Float[Array, " b"], *, l_a: float = 10.0, u_a: float = 110.0
) -> Float[Array, " b"]:
    """Returns MagFace's regulariser g(a) = a / u_a^2 + 1 / a, a = clip(norm), [b]."""
    a = jnp.clip(norms, l_a, u_a)
    return a / u_a**2 + 1.0 / a


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

    The regulariser `magface_penalty` belongs to the loss, not to the logits.

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
    """
    margin = magface(l_a, u_a, l_margin, u_margin, lambda_g=0.0)
    return logits(margin, cos_theta, target, norms, scale=scale)


def _problems(options):
    l_a, u_a = options["l_a"], options["u_a"]
    return [] if u_a > l_a else [f"u_a: got {u_a}, must be > l_a {l_a}"]


MARGIN = MarginEntry(magface, OPTIONS, _problems)
