"""Text lists of pairs of images, in the forms in which they are published.

`name i j` is a pair of one person, `name i other j` of two (LFW, XQLFW, SLLFW, RFW); a
first line of one to three counts may stand above. `file file label` is a pair, of one
person if the label is above 0. Or each image has a line of its own, `file label`, and
two lines make a pair, of one person unless the label is 0 (CALFW, CPLFW).

Columns are separated by tabs, blanks, or commas, below a line of their names where
there is one; lines that begin with # are comments.
"""

import difflib
import math
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.stream.picture import IMAGE_SUFFIXES, has_image_suffix
from qface_jax.errors import DataError

MAX_BYTES, MAX_LINE = 256 << 20, 4096  # of a list, of a line
_SHOWN = 80  # characters of a line or a name
_LOOKED_AT = 1000  # names of a folder
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
    rows = [
        (number, _columns(line))
        for number, line in enumerate(_lines(path), 1)
        if line.strip() and not line.startswith("#")
    ]
    header: tuple[int, ...] = ()
    if rows and _is_header(rows):
        header = tuple(int(c) for c in rows[0][1])[:2]
        rows = rows[1:]
    elif len(rows) > 1 and path.suffix.lower() == ".csv" and not _makes_sense(rows[0]):
        rows = rows[1:]  # the names of the columns
    if not rows:
        raise DataError(
            f"{path}: holds no pair, expected one a line: fetch the list again"
        )
    read = _two_lines if _is_labelled_file(rows[0][1]) else _one_line
    stems, issame = read(path, rows)
    for stem in stems:
        if stem.startswith("/") or ".." in stem.split("/"):
            raise DataError(
                f"{path}: names {stem[:_SHOWN]!r}, expected files within the folder of "
                "the images"
            )
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
    listings: dict[str, dict[str, str]] = {}
    files: dict[str, str | None] = {}
    for stem in dict.fromkeys(stems):
        place, _, name = stem.rpartition("/")
        if place not in listings:
            listings[place] = _listing(folder / place)
        file = listings[place].get(name)
        files[stem] = f"{place}/{file}" if place and file else file
    return [files[stem] for stem in stems]


def similar_names(folder: Path, stem: str, count: int = 3) -> list[str]:
    """Returns what lies where an image should be, the most similar names first."""
    place, _, name = stem.rpartition("/")
    try:
        names = sorted(os.listdir(folder / place))
    except OSError:
        return []
    close = difflib.get_close_matches(name, names[:_LOOKED_AT], count, 0.3)
    return close or names[:count]


def _listing(folder: Path) -> dict[str, str]:
    """Returns name without ending -> file, of the pictures in a folder."""
    found: dict[str, str] = {}
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return found
    # Of two endings the more usual one is taken.
    rank = {ending: place for place, ending in enumerate(IMAGE_SUFFIXES)}
    split = [os.path.splitext(name) for name in names]
    for name, ending in sorted(
        split, key=lambda one: (rank.get(one[1].lower(), 0), one)
    ):
        if ending.lower() in rank:
            found.setdefault(name, name + ending)
    return found


def _lines(path: Path) -> list[str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is no regular file, expected a list of pairs")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                f"{path}: has {path.stat().st_size:,} bytes, expected a list of pairs "
                f"of at most {MAX_BYTES:,}"
            )
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; expected a list of pairs: give "
            "the folder that holds it, --config.eval.path=DIR"
        ) from error
    lines = re.split(r"\r\n|\n|\r", text)  # not at what else Unicode calls a line's end
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE or "\0" in line:
            what = "a NUL" if "\0" in line else f"{len(line):,} characters"
            raise DataError(
                f"{path}: line {number} has {what}, expected a pair, in text of at "
                f"most {MAX_LINE:,} characters a line; is it a list of pairs?"
            )
    return lines


def _columns(line: str) -> list[str]:
    pattern = r"\t+" if "\t" in line else r"," if "," in line else r"\s+"
    columns = [column.strip() for column in re.split(pattern, line)]
    return [column for column in columns if column]


def _is_number(text: str) -> bool:
    """Whether it is a number of an image or a label; other scripts have digits, too."""
    return text.isascii() and text.isdigit() and len(text) < 10


def _is_header(rows: "_Rows") -> bool:
    """Whether the first line has counts; three only if nobody has such a name."""
    counts = rows[0][1]
    if not all(map(_is_number, counts)) or len(counts) > 3:
        return False
    return len(counts) < 3 or not all(_is_number(columns[0]) for _, columns in rows[1:])


_Rows = list[tuple[int, list[str]]]


def _one_line(path: Path, rows: _Rows) -> tuple[list[str], list[bool]]:
    """Reads pairs of a line each."""
    stems: list[str] = []
    issame: list[bool] = []
    for number, columns in rows:
        pair = _pair(columns)
        if pair is None:
            raise DataError(
                f"{path}: line {number} is {' '.join(columns)[:_SHOWN]!r}, expected "
                "'name i j' (same person), 'name i other j' (two persons) or 'file "
                "file label'"
            )
        stems += pair[:2]
        issame.append(pair[2])
    return stems, issame


def _makes_sense(row: tuple[int, list[str]]) -> bool:
    return _pair(row[1]) is not None or _is_labelled_file(row[1])


def _pair(columns: list[str]) -> tuple[str, str, bool] | None:
    """Returns the two images and whether they show one person; None: it is no pair."""
    if len(columns) == 3 and all(map(has_image_suffix, columns[:2])):
        if not re.fullmatch(r"[+-]?\d{1,9}(\.0*)?", columns[2], re.ASCII):
            return None
        one, other = (os.path.splitext(column)[0] for column in columns[:2])
        return one, other, float(columns[2]) > 0
    for row in (columns, _words(columns)):
        # `name i j` is short for `name i name j`.
        same = len(row) == 3
        full = [row[0], row[1], row[0], row[2]] if same else row
        if len(full) == 4 and _is_number(full[1]) and _is_number(full[3]):
            return _stem(full[0], full[1]), _stem(full[2], full[3]), same
    return None


def _words(columns: list[str]) -> list[str]:
    """Columns between some of which blanks stand for tabs; else []."""
    words = " ".join(columns).split()
    if len(words) == len(columns) or len(words) < 3:
        return []
    if _is_number(words[-2]):
        return [" ".join(words[:-2]), *words[-2:]]
    # Names may have blanks, too.
    place = next((n for n, word in enumerate(words[1:], 1) if _is_number(word)), 0)
    if not 0 < place < len(words) - 2:
        return []
    other = " ".join(words[place + 1 : -1])
    return [" ".join(words[:place]), words[place], other, words[-1]]


def _stem(person: str, number: str) -> str:
    return f"{person}/{person}_{int(number):04d}"


def _is_labelled_file(columns: list[str]) -> bool:
    """Returns whether a line is of the form `file label`."""
    return len(columns) == 2 and has_image_suffix(columns[0])


def _two_lines(path: Path, rows: _Rows) -> tuple[list[str], list[bool]]:
    """Reads pairs of two lines; kinds that come one after the other are re-blocked."""
    for number, columns in rows:
        if not _is_labelled_file(columns) or not _is_number(columns[1]):
            raise DataError(
                f"{path}: line {number} is {' '.join(columns)[:_SHOWN]!r}, expected "
                "'file label', two lines for each pair"
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
