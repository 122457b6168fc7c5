"""The picture of pair quality against similarity: what the quality partition splits.

Left, each pair of a degraded view and its original by the quality of the pair and their
cosine; right, the cosines of such pairs beside those of a view and other identities
(QGFace's Fig. 3b).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from qface_jax.report.drawings.figure_file import write_figure
from qface_jax.runs.run_folder import SAMPLES

BINS = 60
MIN_NORM, MAX_NORM = 1e-3, 100.0  # what norms are clipped to, as in losses.norm_stats
STD_FLOOR = 1e-3  # added to their deviation there
# What stands for the quality of a pair, by qgface.partition.
PAIR_NORMS = {
    "min": (np.minimum, "lower"),
    "mean": (lambda q, k: (q + k) / 2, "mean"),
    "max": (np.maximum, "higher"),
    "none": (np.minimum, "lower"),
}


class Histogram(NamedTuple):
    """Counts of pairs.

    Attributes:
        counts: int [norm bin, cosine bin].
        norm_edges: Ascending, [norm bins + 1].
        cos_edges: Ascending, -1 .. 1, [cosine bins + 1].
    """

    counts: np.ndarray
    norm_edges: np.ndarray
    cos_edges: np.ndarray


def histogram(
    norms_q: np.ndarray,
    norms_k: np.ndarray,
    similarity: np.ndarray,
    *,
    partition: str = "min",
    bins: int = BINS,
) -> Histogram:
    """Counts pairs by the norm that stands for their quality and by their cosine.

    Args:
        norms_q: Feature norms of the degraded views, [n].
        norms_k: Feature norms of the originals, [n].
        similarity: cos(q, k), [n]; rounding beyond [-1, 1] counts as 1.
        partition: Key of PAIR_NORMS.
        bins: Along each axis.

    Returns:
        The counts; pairs with a value that is not finite are left out.

    Raises:
        ValueError: if the lengths differ.
    """
    if not len(norms_q) == len(norms_k) == len(similarity):
        raise ValueError(
            f"got {len(norms_q)} norms_q, {len(norms_k)} norms_k and "
            f"{len(similarity)} cosines, expected as many of each"
        )
    of_pair, _ = PAIR_NORMS[partition]
    norms = of_pair(
        np.clip(np.asarray(norms_q, np.float64), MIN_NORM, MAX_NORM),
        np.clip(np.asarray(norms_k, np.float64), MIN_NORM, MAX_NORM),
    )
    cos = np.clip(np.asarray(similarity, np.float64), -1.0, 1.0)
    fit = np.isfinite(norms) & np.isfinite(cos)
    norms, cos = norms[fit], cos[fit]
    low, high = (norms.min(), norms.max()) if len(norms) else (0.0, 1.0)
    if high - low <= 1e-6 * max(high, 1.0):
        low, high = low - 0.5, high + 0.5
    norm_edges, cos_edges = np.linspace(low, high, bins + 1), _cos_edges(bins)
    counts, _, _ = np.histogram2d(norms, cos, (norm_edges, cos_edges))
    return Histogram(counts.astype(np.int64), norm_edges, cos_edges)


def threshold_norm(
    qgface: ConfigDict, *, norm_mean: float, norm_std: float
) -> float | None:
    """Returns the norm at which the quality u is the threshold.

    u = (norm_hat + 1) / 2 with norm_hat = h (norm - mean) / (std + 1e-3), so
    norm = mean + (2 threshold - 1) (std + 1e-3) / h.

    Args:
        qgface: `config.qgface`: partition, threshold and concentration h.
        norm_mean: Running mean of the norms.
        norm_std: Running standard deviation of the norms.

    Returns:
        The norm; None where no norm parts the views: without a partition, with h 0,
        or where it is none that a feature can have.
    """
    if qgface.partition == "none" or not qgface.concentration:
        return None
    distance = (2.0 * qgface.threshold - 1.0) * (norm_std + STD_FLOOR)
    norm = norm_mean + distance / qgface.concentration
    # At 1 the best view is no better than the threshold.
    if qgface.threshold >= 1.0 or not MIN_NORM <= norm <= MAX_NORM:
        return None
    return float(norm)


def write(
    run: Path,
    *,
    norms_q: np.ndarray,
    norms_k: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    norm_mean: float,
    norm_std: float,
    qgface: ConfigDict,
) -> Path:
    """Draws `RUN/samples/norm_similarity.png`, written aside and then renamed.

    Args:
        run: Folder of the run.
        norms_q: Feature norms of the degraded views, [n]; n may be 0.
        norms_k: Feature norms of the originals, [n].
        positive: cos(q, k) of each pair, [n].
        negative: Cosines of views and other identities' features, any shape.
        norm_mean: Running mean of the norms.
        norm_std: Running standard deviation of the norms.
        qgface: `config.qgface`: partition, threshold and concentration.

    Returns:
        The file.
    """
    figure = Figure(figsize=(11.0, 4.2), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = histogram(norms_q, norms_k, positive, partition=qgface.partition)
    border = threshold_norm(qgface, norm_mean=norm_mean, norm_std=norm_std)
    _draw_pairs(left, counts, border, qgface)
    _draw_cosines(right, np.ravel(positive), np.ravel(negative))
    path = run / SAMPLES / "norm_similarity.png"
    write_figure(path, figure)
    return path


def _cos_edges(bins: int) -> np.ndarray:
    return np.linspace(-1.0, 1.0, bins + 1)


def _draw_pairs(
    axes: Axes, histogram: Histogram, border: float | None, qgface: ConfigDict
) -> None:
    total = int(histogram.counts.sum())
    image: Any = axes.pcolormesh(
        histogram.norm_edges,
        histogram.cos_edges,
        np.ma.masked_equal(histogram.counts, 0).T,
        norm=LogNorm(vmin=1, vmax=max(int(histogram.counts.max()), 2)),
        cmap="viridis",
    )
    axes.figure.colorbar(image, ax=axes, label="pairs")
    if border is not None:
        axes.axvline(
            border,
            color="#ff5a4d",
            linestyle="--",
            label=f"left of {border:.1f}: contrasted, u <= {qgface.threshold:g}",
        )
        axes.legend(loc="lower right", fontsize=8)
    _, which = PAIR_NORMS[qgface.partition]
    axes.set(
        xlabel=f"{which} feature norm of the two views (quality of the pair)",
        ylabel="cos(degraded view, original)",
        ylim=(-1, 1),
    )
    axes.set_title(f"{total:,} pairs by quality and similarity", fontsize=10)


def _draw_cosines(axes: Axes, positive: np.ndarray, negative: np.ndarray) -> None:
    edges, highest = _cos_edges(2 * BINS), 1.0
    for label, cosines, colour in (
        ("view and original", positive, "#2a6fdb"),
        ("view and other identities", negative, "#d9730d"),
    ):
        cosines = np.clip(cosines[np.isfinite(cosines)], -1.0, 1.0)
        counts, _ = np.histogram(cosines, edges)
        share = 100 * counts / max(len(cosines), 1)
        highest = max(highest, share.max())
        mean = f"mean {cosines.mean(dtype=np.float64):.2f}" if len(cosines) else "none"
        axes.stairs(share, edges, color=colour, label=f"{label} ({mean})")
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.15)
    axes.set(xlabel="cosine similarity", ylabel="pairs, %", xlim=(-1, 1))
    axes.set_ylim(0, 1.25 * highest)  # room for the legend
    axes.set_title("Positive and negative pairs", fontsize=10)
    axes.legend(loc="upper left", fontsize=8)
