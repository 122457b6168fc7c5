"""RI: the recognizability index that a run with objective recognizability learns.

References:
    Chai, Ng, Low, Park, Teoh. Recognizability Embedding Enhancement for Very
    Low-Resolution Face Recognition and Quality Estimation. CVPR 2023.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from qface_jax.inference.quality_score import MIN_NORM, QualityScore, Score

_REGRESSION, _INDEX_OF = "params/head/prm", "recognizability.index_of"


def regression_of(
    kernel: Float[np.ndarray, "d 1"],
    bias: Float[np.ndarray, " 1"],
    *,
    unit: bool,
) -> Score:
    """Returns f w + b as a score, or that of f / ||f||.

    Args:
        kernel: w.
        bias: b.
        unit: Whether the regression takes unit features.
    """
    weights, constant = np.asarray(kernel, np.float64)[:, 0], np.float64(bias[0])

    def score(features):
        index = features @ weights
        if unit:
            index = index / np.maximum(np.linalg.norm(features, axis=1), MIN_NORM)
        return index + constant

    return score


def _build(parts: Mapping[str, Any], options: Mapping[str, Any]) -> Score | None:
    regression, unit = parts[_REGRESSION], options[_INDEX_OF] == "unit"
    return regression_of(**regression, unit=unit) if regression else None


SCORE = QualityScore("RI", _build, parts=(_REGRESSION,), settings=(_INDEX_OF,))
