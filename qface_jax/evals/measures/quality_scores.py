"""How recognisable a face is: three scores of a feature, and how well each one ranks.

References:
    Kim, Jain, Liu. AdaFace, CVPR 2022 (the feature norm). Deng et al. Harnessing
    Unrecognizable Faces, WACV 2023 (ERS). Chai et al. Recognizability Embedding
    Enhancement, CVPR 2023 (RI).
"""

import dataclasses

import numpy as np
from scipy import stats

NORM, ERS, RI = "norm", "ers", "ri"
# Name of a score -> what a reader calls it. Of every one, larger is better.
TITLES = {NORM: "feature norm", ERS: "ERS", RI: "RI"}
_MIN_NORM = 1e-12


@dataclasses.dataclass(frozen=True)
class Scorer:
    """What turns raw features into scores.

    Attributes:
        ui_centre: Unit centre of the unrecognizable images, float [d]; None: no ERS.
        kernel: Weights of the regression of the recognizability index, float [d, 1];
            None: no RI.
        bias: Its constant, float [1].
        of_unit: The regression takes unit features.
    """

    ui_centre: np.ndarray | None = None
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    of_unit: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores that it gives, in the order of TITLES."""
        given = {NORM: self, ERS: self.ui_centre, RI: self.kernel}
        return tuple(name for name in TITLES if given[name] is not None)

    def scores(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the scores of raw features by name, float64 [k] each.

        norm = ||f||; ers = min(1 - cos(f, u), 1); ri = f w + b, or that of f / ||f||.

        Args:
            features: Raw features of the pictures themselves, without their mirror
                images, [k, d].
        """
        features = np.asarray(features, np.float64)
        norms = np.linalg.norm(features, axis=1)
        found = {NORM: norms}
        if self.ui_centre is not None:
            along = features @ np.asarray(self.ui_centre, np.float64)
            cos = np.clip(along / np.maximum(norms, _MIN_NORM), -1.0, 1.0)
            found[ERS] = np.minimum(1.0 - cos, 1.0)
        if self.kernel is not None:
            given = features @ np.asarray(self.kernel, np.float64)[:, 0]
            if self.of_unit:
                given = given / np.maximum(norms, _MIN_NORM)
            found[RI] = given + np.float64(self.bias[0])
        return found


def rank_correlation(values: np.ndarray, other: np.ndarray) -> float | None:
    """Returns Spearman's rank correlation, within [-1, 1]; ties have their mean rank.

    Args:
        values: [n].
        other: [n], such as the true resolution of each picture.

    Returns:
        The correlation; None with fewer than two values, where either is constant, or
        where one is not finite.
    """
    values, other = np.asarray(values), np.asarray(other)
    if len(values) < 2 or not (np.isfinite(values).all() and np.isfinite(other).all()):
        return None
    if np.ptp(values) == 0 or np.ptp(other) == 0:
        return None
    return float(stats.spearmanr(values, other).statistic)


def correlation_with_sides(by_side: dict[int, np.ndarray]) -> float | None:
    """Returns how well a score ranks pictures by their true resolution.

    Args:
        by_side: Side in px -> score of each picture seen at that side, [n_side].

    Returns:
        Spearman's rank correlation over all pictures at all sides; None as in
        `rank_correlation`.
    """
    values = np.concatenate(list(by_side.values()))
    sides = np.repeat(list(by_side), [len(found) for found in by_side.values()])
    return rank_correlation(values, sides)


def wrong_signs(correlations: dict[str, float | None]) -> list[str]:
    """Returns a sentence for each score that is larger where pictures are worse.

    Args:
        correlations: Name of a score -> its rank correlation with the resolution.
    """
    return [
        f"{TITLES[name]} falls as pictures get better (rank correlation "
        f"{value:+.2f} with the resolution): in this model it is no measure of quality"
        for name, value in correlations.items()
        if value is not None and value < 0
    ]
