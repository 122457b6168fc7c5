"""How well quality scores rank pictures.

The scores themselves are in `qface_jax.tables.QUALITY_SCORES`. Of every one, larger is
better.
"""

import numpy as np
from scipy import stats

from qface_jax.errors import ConfigError
from qface_jax.tables import QUALITY_SCORES

NORM, ERS, RI = "norm", "ers", "ri"


def title(name: str) -> str:
    """Returns what a reader calls a score.

    Args:
        name: Key of `QUALITY_SCORES`, or `module:object`, which stands for itself where
            it is not trusted: a result may be somebody else's.
    """
    try:
        return QUALITY_SCORES[name].title
    except ConfigError:
        return name


def array_name(name: str) -> str:
    """Returns how the arrays of a score are called in a result, before the side."""
    return "norms" if name == NORM else name


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
    sides = np.repeat(list(by_side), [len(scores) for scores in by_side.values()])
    return rank_correlation(values, sides)


def wrong_signs(correlations: dict[str, float | None]) -> list[str]:
    """Returns a sentence for each score that is larger where pictures are worse.

    Args:
        correlations: Name of a score -> its rank correlation with the resolution.
    """
    return [
        f"{title(name)} falls as pictures get better (rank correlation "
        f"{value:+.2f} with the resolution): in this model it is no measure of quality"
        for name, value in correlations.items()
        if value is not None and value < 0
    ]
