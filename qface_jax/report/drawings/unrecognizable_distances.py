"""How tight unrecognizable images gather, and how far from them faces stand."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qface_jax.report.drawings.figure_file import write_figure

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_KINDS = (("unrecognizable images", "#d9730d"), ("training faces", "#2a6fdb"))


def separation(unrecognizable: np.ndarray, faces: np.ndarray) -> float:
    """Returns the chance that a UI is nearer to the UI centre than a face is.

    1: the two are told apart by their cosine alone; 0.5: not at all. Ties count half.

    Args:
        unrecognizable: Cosines of unrecognizable images with their centre, [n], n >= 1.
        faces: Cosines of faces with it, [m], m >= 1.
    """
    order = np.sort(faces)
    below = np.searchsorted(order, unrecognizable, side="left")
    at_most = np.searchsorted(order, unrecognizable, side="right")
    return float(np.mean((below + at_most) / 2) / len(faces))


def lines(unrecognizable: np.ndarray, faces: np.ndarray, tightness: float) -> list[str]:
    """Returns the distances as text.

    Args:
        unrecognizable: Cosines of unrecognizable images with their centre, [n], n >= 1.
        faces: Cosines of faces with it, [m], m >= 1.
        tightness: Length of the UIs' mean unit embedding, within [0, 1].
    """
    head = "  ".join(f"{quantile:>6.0%}" for quantile in _QUANTILES)
    width = max(len(kind) for kind, _ in _KINDS)
    rows = [f"{'cosine with the UI centre':<{width + 10}}  {head}"]
    for (kind, _), cosines in zip(_KINDS, (unrecognizable, faces), strict=True):
        values = "  ".join(f"{v:6.3f}" for v in np.quantile(cosines, _QUANTILES))
        rows.append(f"{kind:<{width}}  {len(cosines):>8,}  {values}")
    inside = float(np.mean(faces >= np.quantile(unrecognizable, 0.05)))
    rows += [
        f"tightness {tightness:.3f} (length of the mean unit embedding; 1: all one)",
        f"separation {separation(unrecognizable, faces):.4f} (chance that a UI is "
        "nearer to the centre than a face is; 1: told apart, 0.5: not at all)",
        f"{inside:.1%} of the faces lie among the UIs (nearer than 95% of the UIs do)",
    ]
    return rows


def draw(path: Path, unrecognizable: np.ndarray, faces: np.ndarray) -> Path:
    """Draws the two distributions as PNG, written aside and then renamed.

    Args:
        path: PNG to write.
        unrecognizable: As of `lines`.
        faces: As of `lines`.
    """
    figure = Figure(figsize=(6.4, 3.6), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    low = min(float(np.min(unrecognizable)), float(np.min(faces)), 0.0)
    edges = np.linspace(low, 1.0, 61)
    for (kind, colour), cosines in zip(_KINDS, (unrecognizable, faces), strict=True):
        counts, _ = np.histogram(np.clip(cosines, low, 1.0), edges)
        share = 100 * counts / len(cosines)
        mean = np.mean(cosines, dtype=np.float64)
        axes.stairs(share, edges, color=colour, label=f"{kind} (mean {mean:.2f})")
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.15)
    axes.set(xlabel="cosine with the UI centre", ylabel="images, %")
    axes.set_title("Distance from the unrecognizable", fontsize=10)
    axes.legend(fontsize=8)
    write_figure(path, figure)
    return path
