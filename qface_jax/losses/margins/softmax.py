"""Normalised softmax without a margin: f = cos theta.

References:
    Wang, Xiang, Cheng, Yuille. NormFace: L2 Hypersphere Embedding for Face
    Verification. ACM MM 2017.
"""

from qface_jax.losses.margins.margin import (
    Cosines,
    Margin,
    MarginEntry,
    Target,
    clip_cosine,
    logits,
)


def softmax() -> Margin:
    """Returns the margin that changes nothing."""
    return Margin(lambda cos_y, norms, state: clip_cosine(cos_y))


def softmax_logits(
    cos_theta: Cosines, target: Target, *, scale: float = 64.0
) -> Cosines:
    """Returns s cos theta: normalised softmax without a margin.

    Args:
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c].
        scale: s.

    Returns:
        Logits, [b, c].
    """
    return logits(softmax(), cos_theta, target, scale=scale)


MARGIN = MarginEntry(softmax)
