"""Recognizability: how easily a face is recognised, and what is learned from it.

A face is recognisable when its embedding is near its own class, far from all others and
far from where unrecognizable images gather, the unrecognizable centre.

The main paper's equations are not at hand, only its supplement with the modules and
their settings; those below are put together from its abstract and from descriptions by
others. Where that left a choice, it is an argument, and said so.

References:
    Chai, Ng, Low, Park, Teoh. Recognizability Embedding Enhancement for Very
    Low-Resolution Face Recognition and Quality Estimation. CVPR 2023.
    Deng, Gong, Ge, Zafeiriou, Kotsia. Harnessing Unrecognizable Faces for Improving
    Face Recognition. WACV 2023 (the score ERS and the unrecognizable
    centre, there called UI centre).
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from qface_jax.losses.vectors import dot, unit

EPSILON = 1e-6  # below it a norm or a deviation counts as it


def distance(cos: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns d = 1 - cos, within [0, 2]; cosines beyond [-1, 1] by rounding too.

    Args:
        cos: Cosine to the own centre (d_pos), to the nearest other one (d_neg) or to
            the unrecognizable centre (d_ui), any shape.

    >>> [float(d) for d in distance(jnp.array([1.0, 0.0, -1.0]))]
    [0.0, 1.0, 2.0]
    """
    return 1.0 - jnp.clip(cos, -1.0, 1.0)


def unrecognizable_cosine(
    features: Float[Array, "b d"], unrecognizable_centre: Float[Array, " d"]
) -> Float[Array, " b"]:
    """Returns the cosine of each embedding with the unrecognizable centre, [b].

    Args:
        features: Raw features, [b, d]; a zero feature has cosine 0.
        unrecognizable_centre: Unit centre of the unrecognizable images, [d].
    """
    return dot("bd,d->b", unit(features), unrecognizable_centre)


def ri_target(
    cos_own: Float[Array, " b"],
    cos_nearest: Float[Array, " b"],
    cos_unrecognizable: Float[Array, " b"],
    *,
    epsilon: float,
    bounded: bool = False,
) -> Float[Array, " b"]:
    """Returns the index xi = d_ui d_neg / (d_pos + epsilon), [b]; no gradient.

    Larger is easier. It is 0 at the unrecognizable centre and at another class's.
    Without a bound a few easy images, whose d_pos is close to 0, outweigh all others
    in what is learned from it; xi / (1 + xi) has the same order and stays below 1, as
    the indices of the supplement's Fig. 9 and 10 do.

    Args:
        cos_own: Cosine to the own class centre, [b].
        cos_nearest: Cosine to the nearest other centre, [b].
        cos_unrecognizable: Cosine to the unrecognizable centre, [b].
        epsilon: Bounds the index where an embedding equals its class centre, > 0. Not
            published.
        bounded: Return xi / (1 + xi).
    """
    cosines = lax.stop_gradient((cos_own, cos_nearest, cos_unrecognizable))
    d_pos, d_neg, d_ui = (distance(cos) for cos in cosines)
    far, near = d_ui * d_neg, d_pos + epsilon
    return far / (near + far if bounded else near)


def smooth_l1(
    predicted: Float[Array, " b"], target: Float[Array, " b"], *, beta: float
) -> Float[Array, " b"]:
    """Returns the smooth L1 loss of each row, [b].

    0.5 e^2 / beta where |e| < beta, else |e| - beta / 2, with e = predicted - target.

    Args:
        predicted: xi_hat, [b].
        target: xi, [b]; no gradient reaches it.
        beta: Where it turns from square to straight, > 0; 0.75 in the paper.

    >>> import jax.numpy as jnp
    >>> zeros = jnp.zeros(3)
    >>> [float(x) for x in smooth_l1(jnp.array([0.0, 0.5, 2.0]), zeros, beta=1.0)]
    [0.0, 0.125, 1.5]
    """
    error = jnp.abs(predicted - lax.stop_gradient(target))
    return jnp.where(error < beta, 0.5 * error**2 / beta, error - 0.5 * beta)


def index_diversion(
    predicted: Float[Array, " b"],
    unrecognizable_mean: Float[Array, ""],
    unrecognizable_std: Float[Array, ""],
    *,
    threshold: float,
) -> Float[Array, " b"]:
    """Returns the index diversion loss of each row, [b].

    max(0, tau - (xi_hat - mu_ui) / sigma_ui): a face whose index is less than tau
    deviations above that of unrecognizable images is pushed up.

    Args:
        predicted: xi_hat, [b].
        unrecognizable_mean: mu_ui, mean of xi_hat over unrecognizable images, []; no
            gradient.
        unrecognizable_std: sigma_ui, its standard deviation, []; no gradient; at least
            EPSILON.
        threshold: tau, in deviations. Not published.
    """
    mean, std = lax.stop_gradient((unrecognizable_mean, unrecognizable_std))
    score = (predicted - mean) / jnp.maximum(std, EPSILON)
    return jnp.maximum(threshold - score, 0.0)


def attention_target(
    features: Float[Array, "b d"], unrecognizable_centre: Float[Array, " d"]
) -> Float[Array, "b d"]:
    """Returns the embedding's part off the unrecognizable centre, as unit rows, [b, d].

    v_perp = v - <v, u> u over its norm; v the unit embedding, u the unrecognizable
    centre; no gradient.

    Args:
        features: Raw features, [b, d].
        unrecognizable_centre: u, unit, [d].

    Returns:
        Unit rows orthogonal to u; zeros where the embedding lies along u, which leaves
        no direction to attend to.
    """
    v, u = lax.stop_gradient((unit(features), unrecognizable_centre))
    along = dot("bd,d->b", v, u)
    off = v - along[:, None] * u[None, :]
    norms = jnp.sqrt(jnp.sum(off**2, axis=1, keepdims=True))
    # What is left along u is rounding: its direction would be chance.
    return jnp.where(norms > 1e-5, off / jnp.maximum(norms, 1e-5), 0.0)


def attention_loss(
    projection: Float[Array, "b d"],
    target: Float[Array, "b d"],
    *,
    reduction: str = "mean",
) -> Float[Array, " b"]:
    """Returns the squared error of each row, [b].

    Args:
        projection: Pooled projection of the attended feature map, [b, d].
        target: From `attention_target`, [b, d]; no gradient reaches it.
        reduction: Over the d places: `mean`, as the mean squared error of the paper is
            commonly computed, or `sum`, the squared distance of the two.

    Raises:
        ValueError: unknown reduction.
    """
    reductions = {"mean": jnp.mean, "sum": jnp.sum}
    if reduction not in reductions:
        raise ValueError(
            f"reduction: got {reduction!r}, must be one of {', '.join(reductions)}"
        )
    squares = (projection - lax.stop_gradient(target)) ** 2
    return reductions[reduction](squares, axis=1)
