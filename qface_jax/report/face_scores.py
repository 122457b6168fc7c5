"""Quality scores of single faces: as a table, in numbers, the extremes of them."""

import array
import collections
import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.evals.measures.quality_scores import rank_correlation, title
from qface_jax.storage.atomic_file import replacing
from qface_jax.tables import QUALITY_SCORES

OK, NON_FINITE = "ok", "non_finite"
QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}


class FaceScore(NamedTuple):
    """What became of one image.

    Attributes:
        name: where it comes from.
        status: OK, NON_FINITE (the network gives no finite feature for it), or that of
            an image that could not be read or decoded.
        scores: by name (a key of `tables.QUALITY_SCORES`); larger is better. {} where
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


def write_csv(
    path: Path, rows: Iterable[FaceScore], further: Iterable[str] = ()
) -> None:
    """Writes a line for each row as it comes, aside, then renames the file.

    Columns are name, status, the scores of the package, further ones, width, height
    and message; a score that there is none of is empty.

    Args:
        path: file to write or replace; its folder is made if need be.
        rows: any number of them.
        further: names of the scores that are not the package's.
    """
    names = tuple(dict.fromkeys((*QUALITY_SCORES, *further)))
    # Names of files need not be text; what is not comes out as it went in.
    with (
        replacing(path) as aside,
        aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(("name", "status", *names, "width", "height", "message"))
        table.writerows(_line(row, names) for row in rows)


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
        quantiles = np.quantile(values, list(QUANTILES.values()))
        numbers = "".join(f"{value:11.4g}" for value in quantiles)
        lines.append(f"{title(name):14}{numbers}")
    for one, other in itertools.combinations(scores, 2):
        value = rank_correlation(scores[one], scores[other])
        shown = "none" if value is None else f"{value:+.3f}"
        lines.append(f"rank correlation of {title(one)} and {title(other)}: {shown}")
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
        [f"{title(name)} {values[row]:.3g}" for name, values in scores.items()]
        for row in rows
    ]


def _line(row: FaceScore, names: tuple[str, ...]) -> list:
    # repr of a float is the shortest text that reads back as the same number.
    scores = [repr(float(row.scores[n])) if n in row.scores else "" for n in names]
    size = [row.width or "", row.height or ""]
    return [row.name, row.status, *scores, *size, row.message]
