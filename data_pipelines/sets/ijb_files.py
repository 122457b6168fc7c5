"""The files in the `meta` folder of IJB-B and IJB-C: each read, and checked by itself.

`ijb` puts them together.
"""

import csv
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.errors import DataError, counted

_CSV_HEADER = ["TEMPLATE_ID", "SUBJECT_ID"]  # the columns that count
_SHOWN = 3  # examples in a message


class Enrolled(NamedTuple):
    """Templates of a gallery or of the probes, in ascending order of their numbers.

    Attributes:
        templates: as rows of the set's templates, int64 [k].
        subjects: numbers of the people, int64 [k].
        rows: lines of the file, one per image.
    """

    templates: np.ndarray
    subjects: np.ndarray
    rows: int


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        hint = "fetch the list again"
        if path.suffix == ".csv":
            protocol = path.name.split("_", 1)[0]
            hint += f", or leave 1:N out: --config.eval.{protocol}.identification=False"
        message = f"{path}: cannot be read: {error.strerror}; {hint}"
        raise DataError(message) from error
    rows = text.splitlines()
    if not any(row.strip() for row in rows):
        raise DataError(f"{path}: is empty, expected one line per entry")
    return rows


def read_faces(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns names [n], landmarks float32 [n, 5, 2] and detector's scores [n].

    Args:
        path: of the list of landmarks.

    Raises:
        DataError: it cannot be read, a line has another form, or x and y seem to be
            exchanged.
    """
    form = "name, 10 coordinates, score"
    rows = _split(path, 12, form)
    values = _numbers(path, rows, form, np.float64)
    landmarks = values[:, :10].reshape(-1, 5, 2).astype(np.float32)
    known = np.isfinite(landmarks).all((1, 2))
    # A face that was not detected has neither landmarks nor a score.
    detector = np.where(np.isnan(values[:, 10]) & ~known, 0.0, values[:, 10])
    bad = np.flatnonzero(~(np.isfinite(detector) & (detector >= 0)))
    if len(bad):
        raise DataError(
            f"{path}: line {bad[0] + 1} has the detector's score {detector[bad[0]]:g}, "
            "expected a number >= 0"
        )
    _check_upright(path, landmarks[known])
    return [row[0] for row in rows], landmarks, detector


def _check_upright(path: Path, landmarks: np.ndarray) -> None:
    """Raises DataError where the mouth is not below the eyes in most faces."""
    down = landmarks[:, 3:].mean(1) - landmarks[:, :2].mean(1)
    lying = int((down[:, 1] <= np.abs(down[:, 0])).sum())
    if 2 * lying > len(landmarks):
        raise DataError(
            f"{path}: in {lying:,} of {len(landmarks):,} faces the eyes are not above "
            "the mouth; expected x y of left eye, right eye, nose, mouth left and "
            "right: are x and y exchanged?"
        )


def read_templates(path: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns number of template and of medium of each image, int64 [n].

    Args:
        path: of the list of templates and media.
        names: of the list of landmarks, which are the same row by row.

    Raises:
        DataError: they are not, the file cannot be read, or a line has another form.
    """
    form = "name, template, medium"
    rows = _split(path, 3, form)
    if len(rows) != len(names):
        raise DataError(
            f"{path}: got {len(rows):,} lines, the list of landmarks has "
            f"{len(names):,}; both name the same images, row by row"
        )
    for number, (row, name) in enumerate(zip(rows, names, strict=True), start=1):
        if row[0] != name:
            raise DataError(
                f"{path}: line {number} names {row[0]}, the list of landmarks {name}; "
                "both name the same images, row by row"
            )
    template, medium = _numbers(path, rows, form, np.int64).T
    return template, medium


def check_unique(path: Path, names: list[str]) -> None:
    """Raises DataError where a list names an image twice."""
    if len(set(names)) == len(names):
        return
    lines: dict[str, int] = {}
    beyond = counted(len(names) - len(set(names)), "line")
    for number, name in enumerate(names, start=1):
        if name in lines:
            raise DataError(
                f"{path}: lines {lines[name]} and {number} both name {name} "
                f"({beyond} too many); each image stands once: remove the duplicates "
                "from both lists"
            )
        lines[name] = number


def _split(path: Path, columns: int, form: str) -> list[list[str]]:
    rows = [line.split() for line in _lines(path)]
    while rows and not rows[-1]:
        rows.pop()
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise DataError(
                f"{path}: line {number} has {len(row)} fields, expected {columns}: "
                f"{form}; is the file cut off?"
            )
    return rows


def _numbers(path: Path, rows: list[list[str]], form: str, kind: type) -> np.ndarray:
    """Returns all but the first field of each row as numbers, [n, fields - 1]."""
    try:
        return np.array([row[1:] for row in rows], dtype=kind)
    except (ValueError, OverflowError):
        for number, row in enumerate(rows, start=1):
            try:
                np.array(row[1:], dtype=kind)
            except (ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}: line {number} is {' '.join(row)[:80]!r}, expected {form}"
                ) from error
        raise


def read_pairs(
    path: Path, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Returns the pairs by first, then second template, and notes.

    Args:
        path: of the list of pairs.
        ids: numbers of the templates, ascending int64 [t].

    Returns:
        both templates as rows of `ids`, int32 [p] each; whether they are of one person,
        bool [p]; sentences on what is odd.

    Raises:
        DataError: the list cannot be read, a line has another form, a template is
            unknown, or a pair has both labels.
    """
    form = "template, template, 1 (same person) or 0"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file
            table = np.loadtxt(path, dtype=np.int32, ndmin=2, comments=None)
    except OSError as error:
        reason = error.strerror or "no such file"
        message = f"{path}: cannot be read: {reason}; fetch the list again"
        raise DataError(message) from error
    except ValueError as error:
        said = str(error).split(";", 1)[0].rstrip(".")
        raise DataError(f"{path}: {said}; expected lines of {form}") from error
    if not len(table):
        raise DataError(f"{path}: is empty, expected lines of {form}")
    if table.shape[1] != 3:
        raise DataError(f"{path}: has {table.shape[1]} fields a line, expected {form}")
    label = table[:, 2]
    bad = np.flatnonzero((label != 0) & (label != 1))
    if len(bad):
        raise DataError(
            f"{path}: line {bad[0] + 1} has the label {label[bad[0]]}, expected {form}"
        )
    left, right = (_rows_of(path, table[:, side], ids) for side in (0, 1))
    return _in_order(path, left, right, label == 1)


def _rows_of(path: Path, templates: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the rows of templates among the ascending numbers of all, int32."""
    rows = np.searchsorted(ids, templates).astype(np.int32)
    unknown = ids[np.minimum(rows, len(ids) - 1)] != templates
    if unknown.any():
        numbers = np.unique(templates[unknown])
        shown = ", ".join(map(str, numbers[:_SHOWN]))
        raise DataError(
            f"{path}: names {counted(len(numbers), 'template')} without image in the "
            f"*_face_tid_mid.txt beside it: {shown}"
            f"{', ...' if len(numbers) > _SHOWN else ''}; the lists must be of one "
            "download"
        )
    return rows


def _in_order(
    path: Path, left: np.ndarray, right: np.ndarray, genuine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Returns the pairs by first, then second template, and notes."""
    pairs = (left.astype(np.int64) << 32) + (right.astype(np.int64) << 1) + genuine
    pairs.sort()
    again = (pairs[1:] >> 1) == (pairs[:-1] >> 1)
    contradicting = int((again & (pairs[1:] != pairs[:-1])).sum())
    if contradicting:
        raise DataError(
            f"{path}: {counted(contradicting, 'pair')} listed both as one person and "
            "as two; expected one label for each pair"
        )
    repeated = counted(int(again.sum()), "pair")
    notes = [f"{path.name}: {repeated} listed again"] if again.any() else []
    left = (pairs >> 32).astype(np.int32)
    right = ((pairs & 0xFFFFFFFF) >> 1).astype(np.int32)
    return left, right, (pairs & 1) == 1, notes


def read_enrolled(path: Path, ids: np.ndarray) -> Enrolled:
    """Reads a gallery or the probes.

    Args:
        path: of the CSV file.
        ids: numbers of the templates, ascending int64 [t].

    Raises:
        DataError: it cannot be read or is empty, a line has another form, a template is
            unknown or has two subjects.
    """
    rows = list(csv.reader(_lines(path)))
    if rows[0][:2] != _CSV_HEADER:
        raise DataError(
            f"{path}: begins with {','.join(rows[0])[:60]!r}, expected the columns "
            f"{','.join(_CSV_HEADER)},..."
        )
    rows = [row for row in rows[1:] if row]
    if not rows:
        raise DataError(
            f"{path}: holds no template, only its header; without a gallery and probes "
            "there is no search: unpack it again, or leave 1:N out"
        )
    table = []
    for number, row in enumerate(rows, start=2):
        try:
            table.append([int(row[0]), int(row[1])])
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}: line {number} is {','.join(row)[:60]!r}, expected numbers of "
                "template and subject first; is the file cut off?"
            ) from error
    templates, subjects = np.unique(np.array(table, np.int64), axis=0).T
    twice = np.flatnonzero(np.diff(templates) == 0)
    if len(twice):
        raise DataError(
            f"{path}: template {templates[twice[0]]} is of the subjects "
            f"{subjects[twice[0]]} and {subjects[twice[0] + 1]}; expected one subject "
            "for each template"
        )
    of_rows = _rows_of(path, templates, ids).astype(np.int64)
    return Enrolled(of_rows, subjects, len(rows))
