"""Gradient scaling term: how strongly a margin softmax pulls on each sample.

g = (P_y - 1) d f(cos theta_y) / d cos theta_y, with P_y the softmax probability of the
own class after the margin and f its logit. g = 0 means that a sample has no say.

References:
    Kim, Jain, Liu. AdaFace: Quality Adaptive Margin for Face Recognition. CVPR 2022,
    eq. 9-15.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LogitsFn = Callable[[Float[Array, "b c"], Bool[Array, "b c"]], Float[Array, "b c"]]


def gradient_scaling_term(
    logits_fn: LogitsFn, cos_theta: Float[Array, "b c"], target: Bool[Array, "b c"]
) -> Float[Array, " b"]:
    """Returns g of each sample, by differentiating the margin function itself.

    Args:
        logits_fn: (cos_theta [b, c], target [b, c]) -> logits [b, c]: any function of
            `qface_jax.losses.margin` with its other arguments bound.
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c]; exactly one in each row.

    Returns:
        g, [b]; at most 0 where f increases with the cosine.
    """
    # Only the own cosine moves: the tangent is the target mask itself.
    logits, slopes = jax.jvp(
        lambda cos: logits_fn(cos, target),
        (cos_theta,),
        (target.astype(cos_theta.dtype),),
    )
    others = jnp.sum(jnp.where(target, 0.0, jax.nn.softmax(logits, axis=-1)), axis=-1)
    slope = jnp.sum(jnp.where(target, slopes, 0.0), axis=-1)
    # P_y - 1 summed from the other classes: no cancellation when P_y is near 1.
    return -others * slope


def two_class_cosines(
    theta_y: Float[Array, " b"], separation: float
) -> tuple[Float[Array, "b 2"], Bool[Array, "b 2"]]:
    """Returns cosines and target of a feature in the plane of two class centres.

    Args:
        theta_y: Angle to the own centre, [b], radians in [0, pi].
        separation: Angle between the two centres, radians in (0, pi].

    Returns:
        Cosines to (own, other) centre, [b, 2], and the target mask, [b, 2].
    """
    cos_theta = jnp.stack([jnp.cos(theta_y), jnp.cos(theta_y - separation)], axis=-1)
    target = jnp.broadcast_to(jnp.array([True, False]), cos_theta.shape)
    return cos_theta, target
