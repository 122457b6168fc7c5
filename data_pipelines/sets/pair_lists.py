"""Text lists of pairs of images, in the forms in which they are published.

`name i j` is a pair of one person, `name i other j` of two (LFW, XQLFW, SLLFW, RFW); a
first line of one or two counts may stand above. Or each image has a line of its own,
`file label`, and two lines make a pair, of one person unless the label is 0 (CALFW,
CPLFW).
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.stream.picture import IMAGE_SUFFIXES
from qface_jax.errors import DataError

_SUFFIXES = (*IMAGE_SUFFIXES, *(ending.upper() for ending in IMAGE_SUFFIXES))
_FOLDS = 10  # of the lists whose pairs of one person all come before those of two


class PairList(NamedTuple):
    """The pairs of a list.

    Attributes:
        stems: path of each image within the folder, without ending; pair i is images
            2i and 2i + 1.
        issame: bool [p].
        header: counts of the first line: (folds, pairs of each kind in a fold), one
            count, or none.
        folds: that the list is divided into; 0: it does not say.
        notes: what is not as published, in sentences.
    """

    stems: list[str]
    issame: np.ndarray
    header: tuple[int, ...]
    folds: int = 0
    notes: Sequence[str] = ()


def read_pair_list(path: Path) -> PairList:
    """Reads a list.

    Raises:
        DataError: it cannot be read, holds no pair, or a line has another form.
    """
    try:
        lines = path.read_text(
            encoding="utf-8-sig", errors="surrogateescape"
        ).splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; expected a list of pairs: give "
            "the folder that holds it, --config.eval.path=DIR"
        ) from error
    rows = [
        (number, _columns(line)) for number, line in enumerate(lines, 1) if line.strip()
    ]
    header: tuple[int, ...] = ()
    if rows and len(rows[0][1]) <= 2 and all(c.isdigit() for c in rows[0][1]):
        header = tuple(int(c) for c in rows[0][1])
        rows = rows[1:]
    if not rows:
        raise DataError(
            f"{path}: holds no pair, expected one a line: fetch the list again"
        )
    read = _two_lines if _is_labelled_file(rows[0][1]) else _one_line
    stems, issame = read(path, rows)
    notes = []
    if header and 2 * math.prod(header) != len(issame):
        notes.append(
            f"the first line of {path.name} declares {2 * math.prod(header)} pairs, "
            f"the file has {len(issame)}"
        )
    folds = header[0] if len(header) == 2 else 0
    return PairList(stems, np.asarray(issame), header, folds, notes)


def find_images(folder: Path, stems: list[str]) -> list[str | None]:
    """Returns the file of each stem within a folder, or None, listing folders once.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it should hold name/name_0001.jpg")
    listings: dict[str, set[str]] = {}
    files: dict[str, str | None] = {}
    for stem in dict.fromkeys(stems):
        place, _, name = stem.rpartition("/")
        if place not in listings:
            listings[place] = _listing(folder / place)
        files[stem] = next(
            (
                f"{place}/{name}{ending}" if place else f"{name}{ending}"
                for ending in _SUFFIXES
                if f"{name}{ending}" in listings[place]
            ),
            None,
        )
    return [files[stem] for stem in stems]


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _columns(line: str) -> list[str]:
    return [c for c in re.split(r"\t+" if "\t" in line else r"\s+", line) if c]


_Rows = list[tuple[int, list[str]]]


def _one_line(path: Path, rows: _Rows) -> tuple[list[str], list[bool]]:
    """Reads pairs of a line each."""
    stems: list[str] = []
    issame: list[bool] = []
    for number, columns in rows:
        columns = [column.strip() for column in columns]
        same = len(columns) == 3
        # `name i j` is short for `name i name j`.
        full = [columns[0], columns[1], columns[0], columns[2]] if same else columns
        if len(full) != 4 or not (full[1].isdigit() and full[3].isdigit()):
            raise DataError(
                f"{path}: line {number} is {' '.join(columns)[:80]!r}, expected 'name "
                "i j' (same person) or 'name i other j' (two persons)"
            )
        stems += [_stem(full[0], full[1]), _stem(full[2], full[3])]
        issame.append(same)
    return stems, issame


def _stem(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}"


def _is_labelled_file(columns: list[str]) -> bool:
    """Returns whether a line is of the form `file label`."""
    return len(columns) == 2 and columns[0].lower().endswith(IMAGE_SUFFIXES)


def _two_lines(path: Path, rows: _Rows) -> tuple[list[str], list[bool]]:
    """Reads pairs of two lines; kinds that come one after the other are re-blocked."""
    for number, columns in rows:
        if not _is_labelled_file(columns) or not columns[1].strip().isdigit():
            raise DataError(
                f"{path}: line {number} is {' '.join(columns)[:80]!r}, expected 'file "
                "label', two lines for each pair"
            )
    if len(rows) % 2:
        raise DataError(
            f"{path}: got {len(rows)} lines of images, expected two for each pair"
        )
    labels = [int(columns[1]) for _, columns in rows]
    issame = np.asarray(labels[0::2]) != 0
    for pair, (one, other) in enumerate(zip(labels[0::2], labels[1::2], strict=True)):
        if (one == 0) != (other == 0):
            raise DataError(
                f"{path}: lines {rows[2 * pair][0]} and {rows[2 * pair + 1][0]} are a "
                f"pair and have labels {one} and {other}, expected 0 twice or never"
            )
    stems = [os.path.splitext(columns[0])[0] for _, columns in rows]
    order = _reblocked(issame)
    return [stems[2 * i + k] for i in order for k in (0, 1)], list(issame[order])


def _reblocked(issame: np.ndarray) -> np.ndarray:
    """Returns the order that gives each of ten folds its part of both kinds.

    Lists of pairs that alternate between kinds stay as they are.
    """
    same, different = np.flatnonzero(issame), np.flatnonzero(~issame)
    divided = len(same) and len(different) and np.diff(issame.astype(int)).nonzero()[0]
    if np.size(divided) != 1:
        return np.arange(len(issame))
    parts = zip(
        np.array_split(same, _FOLDS), np.array_split(different, _FOLDS), strict=True
    )
    return np.concatenate([part for both in parts for part in both])
