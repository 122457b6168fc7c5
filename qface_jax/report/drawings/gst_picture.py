"""The picture and the table of the gradient scaling term: AdaFace's Fig. 3.

A feature lies in the plane of its own and one other class centre, at angle theta to its
own. |g| is drawn over that angle and over the image quality norm_hat in [-1, 1].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from qface_jax.losses import gst
from qface_jax.losses.margins.margin import Margin, logits
from qface_jax.report.drawings.figure_file import write_figure

# norm = 60 + 50 norm_hat: MagFace's default range [10, 110].
MEAN_NORM, NORM_RANGE = 60.0, 50.0
ANGLES = np.deg2rad(np.arange(0.5, 180.0, 1.0))
QUALITIES = np.linspace(-1.0, 1.0, 81)
TABLE_ANGLES = (20, 40, 60, 80, 85, 90, 95, 100, 120, 160)  # degrees


class Panel(NamedTuple):
    """One margin function over the grid.

    Attributes:
        name: Title.
        strength: |g|, [quality, angle].
        lead: Own logit minus the other's, [quality, angle]; 0 on the boundary.
    """

    name: str
    strength: np.ndarray
    lead: np.ndarray


def panel(
    name: str,
    margin: Margin,
    *,
    scale: float,
    angles: np.ndarray = ANGLES,
    qualities: np.ndarray = QUALITIES,
    separation: float = np.pi,
    mean_cosine: float = 0.5,
) -> Panel:
    """Returns |g| and the decision of a margin function over the grid.

    Args:
        name: Title.
        margin: Margin.
        scale: s.
        angles: Angles to the own centre, radians, [a].
        qualities: norm_hat, [q].
        separation: Angle between the two centres, radians.
        mean_cosine: Mean cosine to the own centre in the training so far, for the
            margins whose state depends on it (CurricularFace's t).
    """
    if margin.state_at is None:
        state = margin.init()
    else:
        state = margin.state_at(
            mean_norm=MEAN_NORM, norm_range=NORM_RANGE, mean_cosine=mean_cosine
        )
    quality, theta = np.meshgrid(qualities, angles, indexing="ij")
    norms = jnp.asarray(MEAN_NORM + NORM_RANGE * quality.ravel(), jnp.float32)
    cos_theta, target = gst.two_class_cosines(
        jnp.asarray(theta.ravel(), jnp.float32), separation
    )

    def logits_fn(cos, target):
        return logits(margin, cos, target, norms, state, scale=scale)

    term = jax.jit(lambda cos: gst.gradient_scaling_term(logits_fn, cos, target))
    both = logits_fn(cos_theta, target)
    return Panel(
        name=name,
        strength=np.abs(np.asarray(term(cos_theta))).reshape(quality.shape),
        lead=np.asarray(both[:, 0] - both[:, 1]).reshape(quality.shape),
    )


def draw(
    panels: list[Panel], out: Path, *, scale: float, separation: float = np.pi
) -> None:
    """Writes the panels as one PNG, aside and then renamed.

    Args:
        panels: From `panel`, over the default grid.
        out: File to write.
        scale: s, for the caption.
        separation: Angle between the two centres, radians.
    """
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(3.2 * columns + 1.0, 2.6 * rows + 0.8), dpi=130, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    degrees = np.rad2deg(ANGLES)
    image = None
    for ax, item in zip(axes.flat, panels, strict=False):
        # Near 180 degrees some slopes are steeper by decades: the colours stop at 2s.
        image = ax.pcolormesh(
            degrees, QUALITIES, item.strength, vmin=0, vmax=2 * scale, cmap="viridis",
            shading="nearest",
        )  # fmt: skip
        middle = np.rad2deg(separation) / 2
        ax.axvline(middle, color="white", linewidth=1.4, linestyle="--")
        if item.lead.min() < 0.0 < item.lead.max():
            ax.contour(degrees, QUALITIES, item.lead, [0.0], colors="#ff5a4d")
        ax.set_title(item.name)
        ax.set_xlim(0, 180)
        ax.set_xticks(range(0, 181, 45))
        ax.xaxis.set_tick_params(labelbottom=True)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("norm_hat (quality)")
    figure.supxlabel("angle to the own class centre, degrees", fontsize=10)
    figure.suptitle(
        f"|gradient scaling term|, s = {scale:g}; decision boundary without (white) "
        "and with margin (red)",
        fontsize=10,
    )
    figure.colorbar(
        image, ax=list(axes.flat), label="|g|", extend="max", fraction=0.03, pad=0.02
    )
    write_figure(out, figure)


def table(margins: Mapping[str, Margin], **settings: float) -> str:
    """Returns |g| as text: a line per margin and quality, a column per angle.

    Args:
        margins: Name -> margin.
        **settings: `scale`, `separation` and `mean_cosine` as in `panel`.
    """
    qualities = np.array([-1.0, 0.0, 1.0])
    angles = np.deg2rad(np.array(TABLE_ANGLES, float))
    width = max(16, *(len(name) + 1 for name in margins))
    degrees = "".join(f"{a:>8}°" for a in TABLE_ANGLES)
    lines = [f"{'|g|':<{width}}{'norm_hat':>9}{degrees}"]
    for name, margin in margins.items():
        strength = panel(
            name, margin, angles=angles, qualities=qualities, **settings
        ).strength
        for quality, row in zip(qualities, strength, strict=True):
            cells = "".join(f"{value:>9.3f}" for value in row)
            lines.append(f"{name:<{width}}{quality:>9.0f}{cells}")
    return "\n".join(lines)
