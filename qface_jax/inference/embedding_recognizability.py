"""ERS: how far an embedding lies from where unrecognizable images gather.

References:
    Deng et al. Harnessing Unrecognizable Faces for Improving Face Recognition.
    WACV 2023.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from qface_jax.inference.quality_score import MIN_NORM, QualityScore, Score

UNRECOGNIZABLE = "ui"  # in the state of an objective
_PART = f"aux/{UNRECOGNIZABLE}"


def distance_from(centre: Float[np.ndarray, " d"]) -> Score:
    """Returns min(1 - cos(f, u), 1) as a score.

    Args:
        centre: u, the unit centre of the unrecognizable images.
    """
    centre = np.asarray(centre, np.float64)

    def score(features):
        norms = np.linalg.norm(features, axis=1)
        cos = np.clip(features @ centre / np.maximum(norms, MIN_NORM), -1.0, 1.0)
        return np.minimum(1.0 - cos, 1.0)

    return score


def _build(parts: Mapping[str, Any], options: Mapping[str, Any]) -> Score | None:
    unrecognizable = parts[_PART]
    return distance_from(unrecognizable["centre"]) if unrecognizable else None


SCORE = QualityScore("ERS", _build, parts=(_PART,))
