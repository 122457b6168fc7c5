"""AdaFace's Figs. 4 and 6: feature norm and probability of a sample of training images.

Fig. 4: Pearson correlation with the image quality 1 - BRISQUE over the training, and
the last step's values against the quality, with the least-squares line. Fig. 6: a
column for each image, a row for each step, images sorted by their last norm.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from qface_jax.report.drawings.figure_file import write_figure
from qface_jax.runs.run_folder import SAMPLES

NORM, PROBABILITY = "feature norm", "probability of the own class"
_COLOURS = {NORM: "#2a9d4b", PROBABILITY: "#d9730d"}
_SHOWN = 12  # images above the trajectories


class Measured(NamedTuple):
    """A sample of images as the model of one step sees it.

    Attributes:
        step: Updates done.
        norms: ||features||, [n].
        probabilities: P_y within [0, 1], [n].
        quality: 1 - BRISQUE / 100 of the images, [n].
    """

    step: int
    norms: np.ndarray
    probabilities: np.ndarray
    quality: np.ndarray


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation within [-1, 1] of [n] and [n], in float64.

    It is nan where one of them does not vary, or has a value that is not finite.
    """
    a, b = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (a, b))
    length = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / length if length > 0 else math.nan


def correlations(measured: Measured) -> dict[str, float]:
    """Returns the correlation with the quality of the norm and of the probability."""
    return {
        NORM: correlation(measured.norms, measured.quality),
        PROBABILITY: correlation(measured.probabilities, measured.quality),
    }


def write_correlations(run: Path, measured: Sequence[Measured]) -> Path:
    """Draws `RUN/samples/quality_correlation.png` (Fig. 4) and returns it.

    Args:
        run: Folder of the run.
        measured: At least one step, ascending, the same images each time.
    """
    figure = Figure(figsize=(13.0, 4.0), dpi=130, layout="constrained")
    curves, *scatters = figure.subplots(1, 3)
    steps = [point.step for point in measured]
    by_step = [correlations(point) for point in measured]
    for name, colour in _COLOURS.items():
        values = [values[name] for values in by_step]
        curves.plot(steps, values, color=colour, marker="o", markersize=3, label=name)
    curves.axhline(0.0, color="0.7", linewidth=0.8)
    curves.set(xlabel="step", ylabel="correlation with 1 - BRISQUE")
    curves.legend(fontsize=8)
    curves.set_title(f"{len(measured[-1].norms):,} training images", fontsize=10)
    last = measured[-1]
    _draw_scatter(scatters[0], NORM, last.quality, last.norms)
    _draw_scatter(scatters[1], PROBABILITY, last.quality, last.probabilities)
    path = run / SAMPLES / "quality_correlation.png"
    write_figure(path, figure)
    return path


def _draw_scatter(axes: Axes, name: str, quality: np.ndarray, of: np.ndarray) -> None:
    x, y = np.asarray(quality, np.float64), np.asarray(of, np.float64)
    axes.scatter(x, y, s=4, alpha=0.5, color=_COLOURS[name], linewidths=0)
    title = f"correlation {correlation(x, y):.4f}"
    fit = np.isfinite(x) & np.isfinite(y)
    if np.any(fit) and np.ptp(x[fit]) > 0:
        slope, offset = np.polyfit(x[fit], y[fit], 1)
        ends = np.array([x[fit].min(), x[fit].max()])
        axes.plot(ends, offset + slope * ends, color="#2a6fdb")
        title += f", y = {slope:.3g} x {'-' if offset < 0 else '+'} {abs(offset):.3g}"
    axes.set(xlabel="image quality, 1 - BRISQUE / 100", ylabel=name)
    axes.set_title(title, fontsize=10)


def write_trajectories(
    run: Path, measured: Sequence[Measured], images: np.ndarray
) -> Path:
    """Draws `RUN/samples/quality_trajectories.png` (Fig. 6) and returns it.

    Args:
        run: Folder of the run.
        measured: At least one step, ascending, the same images each time.
        images: Those images, or the first of them, uint8 [m, h, w, 3], m >= 1. Of
            them some are shown, spread evenly over their order by the last norm.
    """
    figure = Figure(figsize=(11.0, 6.4), dpi=130, layout="constrained")
    faces, *maps = figure.subplots(3, 1, height_ratios=(1, 2, 2))
    order = np.argsort(measured[-1].norms, kind="stable")
    with_image = order[order < len(images)]
    places = np.linspace(0, len(with_image) - 1, min(_SHOWN, len(with_image)))
    shown = images[with_image[np.round(places).astype(int)]]
    faces.imshow(np.concatenate(list(shown), axis=1))
    faces.axis("off")
    faces.set_title("images, from the lowest to the highest last norm", fontsize=10)
    steps = [str(point.step) for point in measured]
    for axes, name, rows in (
        (maps[0], NORM, np.stack([point.norms[order] for point in measured])),
        (maps[1], PROBABILITY, np.stack([p.probabilities[order] for p in measured])),
    ):
        # Norms differ by orders of magnitude from the first steps to the last.
        scale = Normalize(0.0, 1.0) if name == PROBABILITY else _logarithmic(rows)
        image: Any = axes.imshow(
            rows, aspect="auto", interpolation="nearest", norm=scale
        )
        figure.colorbar(image, ax=axes, label=name)
        kept = np.unique(np.linspace(0, len(steps) - 1, min(8, len(steps))).astype(int))
        axes.set_yticks(kept, [steps[i] for i in kept])
        axes.set(ylabel="step", xlabel="images, by their last norm")
    path = run / SAMPLES / "quality_trajectories.png"
    write_figure(path, figure)
    return path


def _logarithmic(values: np.ndarray) -> LogNorm:
    """The colours of values > 0; those of 0, or not finite, have none."""
    good = values[np.isfinite(values) & (values > 0)]
    low, high = (good.min(), good.max()) if len(good) else (1.0, 1.0)
    return LogNorm(low, max(high, 1.01 * low))
