"""Distances between features: of given pairs, and what ranks all pairs.

The distance of a pair is taken from the difference of its two features. The matrix
product that ranks all pairs loses digits where they are close, so it only chooses.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qface_jax.losses.vectors import dot

METRICS = ("euclidean", "euclidean_squared", "cosine")


def check_metric(metric: str) -> None:
    """Raises ValueError unless `metric` is one of `METRICS`."""
    if metric not in METRICS:
        raise ValueError(f"metric: got {metric!r}, must be one of {', '.join(METRICS)}")


def paired(
    one: Float[Array, "b d"], other: Float[Array, "b d"], *, metric: str
) -> Float[Array, " b"]:
    """Returns the distance of each row to the row beside it, [b].

    euclidean ||x - y||, euclidean_squared ||x - y||^2, cosine 1 - <x, y>. The gradient
    is finite everywhere; that of `euclidean` at distance 0 is 0.

    Args:
        one: Features, [b, d]; unit ones for `cosine`.
        other: Features, [b, d]; unit ones for `cosine`.
        metric: One of `METRICS`.

    Raises:
        ValueError: unknown metric.

    >>> x, y = jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]])
    >>> [float(d) for d in paired(x, y, metric="euclidean")]
    [5.0]
    """
    check_metric(metric)
    if metric == "cosine":
        return 1.0 - jnp.sum(one * other, axis=-1)
    squared = jnp.sum((one - other) ** 2, axis=-1)
    if metric == "euclidean_squared":
        return squared
    apart = squared > 0.0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)


def ranking(
    anchors: Float[Array, "a d"], others: Float[Array, "n d"], *, metric: str
) -> Float[Array, "a n"]:
    """Returns what orders the others of an anchor as their distance does, [a, n].

    ||y||^2 - 2 <x, y>, the squared distance without the anchor's own part; -<x, y> for
    `cosine`. Only values of one row can be compared.

    Args:
        anchors: Features, [a, d]; unit ones for `cosine`.
        others: Features, [n, d]; unit ones for `cosine`.
        metric: One of `METRICS`.

    Raises:
        ValueError: unknown metric.
    """
    check_metric(metric)
    products = dot("ad,nd->an", anchors, others)
    if metric == "cosine":
        return -products
    return jnp.sum(others**2, axis=-1)[None, :] - 2.0 * products
