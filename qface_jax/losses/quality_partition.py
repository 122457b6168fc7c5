"""Which images are good enough to be classified, and which pairs are not.

References:
    QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition, eq. 1-4.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# How the quality of a pair follows from those of its two views.
PAIR_QUALITIES: dict[str, Callable[..., Float[Array, " b"]]] = {
    "min": jnp.minimum,
    "mean": lambda one, other: (one + other) / 2.0,
    "max": jnp.maximum,
}


def quality(norm_hat: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns u = (norm_hat + 1) / 2: quality within [0, 1], [b].

    Args:
        norm_hat: Standardised norm within [-1, 1], [b] (`norm_stats.norm_hat`).

    >>> [float(u) for u in quality(jnp.array([-1.0, -0.5, 1.0]))]
    [0.0, 0.25, 1.0]
    """
    return (norm_hat + 1.0) / 2.0


def is_recognisable(u: Float[Array, "*b"], *, threshold: float) -> Bool[Array, "*b"]:
    """Returns u > b: the views that classification keeps, [*b].

    Args:
        u: Quality within [0, 1], [*b].
        threshold: b, on the scale of u; 0.2 in the paper.
    """
    return u > threshold


def is_contrasted(
    u_q: Float[Array, " b"],
    u_k: Float[Array, " b"],
    *,
    threshold: float,
    pair_quality: str = "min",
) -> Bool[Array, " b"]:
    """Returns u_p <= b: the pairs that the contrastive loss keeps, [b].

    Args:
        u_q: Quality of the degraded views, [b].
        u_k: Quality of the originals, [b].
        threshold: b.
        pair_quality: A key of `PAIR_QUALITIES`.

    Raises:
        ValueError: unknown pair quality.
    """
    if pair_quality not in PAIR_QUALITIES:
        raise ValueError(
            f"pair_quality: got {pair_quality!r}, must be one of "
            f"{', '.join(PAIR_QUALITIES)}"
        )
    return PAIR_QUALITIES[pair_quality](u_q, u_k) <= threshold


def kept_mean(
    values: Float[Array, " b"], kept: Bool[Array, " b"], valid: Bool[Array, " b"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the sum of the kept values divided by the whole count, and their share.

    With none kept both are 0, not NaN, and so is the gradient.

    Args:
        values: Loss of each sample, [b].
        kept: Samples that count, [b].
        valid: Rows that are samples at all, [b].
    """
    count = jnp.maximum(jnp.sum(valid, dtype=values.dtype), 1.0)
    kept = kept & valid
    share = jnp.sum(kept, dtype=values.dtype) / count
    return jnp.sum(jnp.where(kept, values, 0.0)) / count, share
