"""What a log shows of an evaluation besides its scalars: histograms and pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

from qface_jax.evals.calibration import pair_scores
from qface_jax.evals.results import Result
from qface_jax.report.results import figures_of, lines_of
from qface_jax.runs.run_folder import SAMPLES


def histograms(result: Result) -> dict[str, np.ndarray]:
    """Returns the values whose distributions are worth following, by name.

    Those are the lines of the result's histograms, such as the feature norms at each
    side, and the cosines of pairs of one person (mated) and of two (non-mated). What
    is not finite is left out.

    Args:
        result: Of any protocol, with its arrays.
    """
    values = {
        f"{result.set}/{curve.title}/{line.label}": line.y
        for curve in result.curves
        if curve.kind == "histogram"
        for line in lines_of(result, curve)
    }
    for (kind, side), scores in pair_scores(result).items():
        name = f"{result.set}/cosine, {kind}, {side} px"
        values |= {
            f"{name}/mated": scores.genuine,
            f"{name}/non-mated": scores.impostor,
        }
    finite = {name: array[np.isfinite(array)] for name, array in values.items()}
    return {name: array for name, array in finite.items() if len(array)}


def figures(result: Result) -> dict[str, np.ndarray]:
    """Returns the figures of the report's page, uint8 [h, w, 3] each, by name.

    Args:
        result: Of any protocol, with its arrays.
    """
    drawn = (figure.pixels() for figure in figures_of(result))
    return {f"{result.set}/{title}": pixels for title, pixels in drawn}


class Sheets:
    """The pictures in RUN/samples, each whenever it was drawn anew."""

    def __init__(self, run: Path):
        """Takes the pictures that there are as known.

        Args:
            run: Folder of the run.
        """
        self._folder = run / SAMPLES
        self._known = self._stamps()

    def new(self) -> dict[str, np.ndarray]:
        """Returns those drawn since the last call, uint8 [h, w, 3] each, by name."""
        stamps = self._stamps()
        drawn = [path for path in stamps if stamps[path] != self._known.get(path)]
        self._known = stamps
        return {f"{SAMPLES}/{path.stem}": _pixels(path) for path in drawn}

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        # A picture is written aside and renamed: each has an inode of its own.
        sheets = {path: path.stat() for path in sorted(self._folder.glob("*.png"))}
        return {path: (of.st_mtime_ns, of.st_ino) for path, of in sheets.items()}


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
