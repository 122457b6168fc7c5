"""Figures as PNG files."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from qface_jax.storage.atomic_file import replace_file


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG aside, then renames it; makes the folder if need be."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    replace_file(path, picture.getvalue())
