"""The norm of the raw feature, which every model has.

References:
    Kim, Jain, Liu. AdaFace: Quality Adaptive Margin for Face Recognition. CVPR 2022.
"""

import numpy as np
from jaxtyping import Float

from qface_jax.inference.quality_score import QualityScore


def feature_norms(features: Float[np.ndarray, "k d"]) -> Float[np.ndarray, " k"]:
    """Returns ||f|| of each feature."""
    return np.linalg.norm(features, axis=1)


SCORE = QualityScore("feature norm", build=lambda parts, options: feature_norms)
