"""Quality scores of single faces: as a table, in numbers, as a sheet of extremes."""

import array
import collections
import csv
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qface_jax.atomic_file import replace_file
from qface_jax.evals.measures.quality_scores import TITLES, rank_correlation

OK, NON_FINITE = "ok", "non_finite"
COLUMNS = ("name", "status", *TITLES, "width", "height", "message")
QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
_SIDE, _GAP, _LINE = 112, 6, 14
_INK, _PAPER = (40, 40, 40), (250, 250, 248)


class FaceScore(NamedTuple):
    """What became of one image.

    Attributes:
        name: where it comes from.
        status: OK, NON_FINITE (the network gives no finite feature for it), or that of
            an image that could not be read or decoded.
        scores: by name (a key of `quality_scores.TITLES`); larger is better. {} where
            the status is not OK.
        width: of the image as it is stored, in pixels; 0 where it is not known.
        height: likewise.
        message: what is wrong with it; "" where nothing is.
    """

    name: str
    status: str
    scores: dict[str, float]
    width: int = 0
    height: int = 0
    message: str = ""


class Band(NamedTuple):
    """One row of a sheet.

    Attributes:
        title: above the pictures.
        pictures: uint8 [k, 112, 112, 3].
        captions: lines below each picture, k of them.
    """

    title: str
    pictures: np.ndarray
    captions: Sequence[Sequence[str]]


class Tally:
    """Counts rows as they pass, and keeps their scores, not the rows.

    Attributes:
        statuses: status -> how many images have it.
        examples: the first images that are not OK, a line each.
        places: which rows are OK, in order.
    """

    def __init__(self, examples: int = 5):
        """Starts empty.

        Args:
            examples: how many images that are not OK are named at most.
        """
        self.statuses: collections.Counter[str] = collections.Counter()
        self.examples: list[str] = []
        self.places = array.array("q")
        self._most = examples
        self._scores: dict[str, array.array] = {}

    @property
    def total(self) -> int:
        """How many rows have passed."""
        return sum(self.statuses.values())

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """Scores of the rows that are OK, by name, float64 [n] each."""
        return {name: np.array(values) for name, values in self._scores.items()}

    def counting(self, rows: Iterable[FaceScore]) -> Iterator[FaceScore]:
        """Yields the rows on, counted; all that are OK must have the same scores."""
        for row in rows:
            if row.status == OK:
                self.places.append(self.total)
                for name, value in row.scores.items():
                    self._scores.setdefault(name, array.array("d")).append(value)
            elif len(self.examples) < self._most:
                # Names of files need not be text; a terminal takes nothing else.
                name = row.name.encode("utf-8", "backslashreplace").decode()
                self.examples.append(f"{name}: {row.status}, {row.message}")
            self.statuses[row.status] += 1
            yield row


def write_csv(path: Path, rows: Iterable[FaceScore]) -> None:
    """Writes a line for each row as it comes, aside, then renames the file.

    Columns are COLUMNS; a score that there is none of is empty.

    Args:
        path: file to write or replace; its folder is made if need be.
        rows: any number of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Names of files need not be text; what is not comes out as it went in.
        with aside.open(
            "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(_line(row) for row in rows)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def summary(tally: Tally) -> list[str]:
    """Returns lines: counts by status, quantiles of each score, rank correlations.

    Args:
        tally: all rows have passed it.
    """
    counts = ", ".join(f"{name} {n:,}" for name, n in tally.statuses.most_common())
    lines = [f"images: {tally.total:,} ({counts or 'none'})"]
    lines += [f"  {example}" for example in tally.examples]
    bad = tally.total - tally.statuses[OK] - len(tally.examples)
    lines += [f"  and {bad:,} more"] if bad > 0 else []
    scores = tally.scores
    if scores:
        lines.append(f"{'':14}" + "".join(f"{name:>11}" for name in QUANTILES))
    for name, values in scores.items():
        found = np.quantile(values, list(QUANTILES.values()))
        numbers = "".join(f"{value:11.4g}" for value in found)
        lines.append(f"{TITLES[name]:14}{numbers}")
    for one, other in itertools.combinations(scores, 2):
        value = rank_correlation(scores[one], scores[other])
        told = "none" if value is None else f"{value:+.3f}"
        lines.append(f"rank correlation of {TITLES[one]} and {TITLES[other]}: {told}")
    return lines


def extremes(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the lowest values are, ascending, and the highest, descending.

    Args:
        values: finite, [n].
        count: how many of each at most; a value is never among both.

    Returns:
        int [k] each, k = min(count, n // 2), but 1 lowest where n is 1.
    """
    order = np.argsort(values, kind="stable")
    each = min(count, len(order) // 2)
    return order[: max(each, len(order) == 1)], order[::-1][:each]


def captions(scores: dict[str, np.ndarray], rows: np.ndarray) -> list[list[str]]:
    """Returns the lines below the pictures of some rows: a score each.

    Args:
        scores: by name, [n] each.
        rows: which, int [k].
    """
    return [
        [f"{TITLES[name]} {values[row]:.3g}" for name, values in scores.items()]
        for row in rows
    ]


def score_sheet(path: Path, bands: Sequence[Band]) -> None:
    """Writes bands of pictures with their scores as one PNG, aside and then renamed.

    Args:
        path: of the PNG.
        bands: from the top; those without pictures are left out.

    Raises:
        ValueError: there is no picture at all.
    """
    bands = [band for band in bands if len(band.pictures)]
    if not bands:
        raise ValueError("bands: got no picture, expected at least one")
    cell = _SIDE + _GAP
    heights = [
        _LINE + _SIDE + _LINE * max(map(len, band.captions)) + _GAP for band in bands
    ]
    columns = max(len(band.pictures) for band in bands)
    # Titles may be longer than one or two pictures are wide.
    size = (_GAP + cell * max(columns, 3), _GAP + sum(heights))
    page = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default()
    top = _GAP
    for band, height in zip(bands, heights, strict=True):
        pen.text((_GAP, top), band.title, _INK, font)
        for column, picture in enumerate(band.pictures):
            left = _GAP + column * cell
            page.paste(Image.fromarray(picture), (left, top + _LINE))
            for line, text in enumerate(band.captions[column]):
                below = top + _LINE + _SIDE + line * _LINE
                pen.text((left, below), text, _INK, font)
        top += height
    encoded = io.BytesIO()
    page.save(encoded, "PNG")
    replace_file(path, encoded.getvalue())


def _line(row: FaceScore) -> list:
    # repr of a float is the shortest text that reads back as the same number.
    scores = [repr(float(row.scores[n])) if n in row.scores else "" for n in TITLES]
    size = [row.width or "", row.height or ""]
    return [row.name, row.status, *scores, *size, row.message]
