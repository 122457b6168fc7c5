"""IJB-B and IJB-C as insightface packs them: images, templates, pairs, galleries.

IJBC/loose_crop/1.jpg ...
IJBC/meta/ijbc_name_5pts_score.txt      name, 10 coordinates, detector's score
IJBC/meta/ijbc_face_tid_mid.txt         name, template, medium; row by row the same
IJBC/meta/ijbc_template_pair_label.txt  template, template, 1 same person or 0
IJBC/meta/ijbc_1N_gallery_G1.csv, ijbc_1N_gallery_G2.csv, ijbc_1N_probe_mixed.csv
"""

import csv
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import DataError, counted

_CSV_HEADER = ["TEMPLATE_ID", "SUBJECT_ID"]  # the columns that count
_SHOWN = 3  # examples in a message


class Edition(NamedTuple):
    """One of the two benchmarks.

    Attributes:
        name: with which its lists begin.
        folder: that it is packed in.
        galleries: names of both.
        expected: published counts of the whole set; what is not published is not
            checked.
    """

    name: str
    folder: str
    galleries: tuple[str, str]
    expected: dict[str, int]


IJBB = Edition(
    "ijbb",
    "IJBB",
    ("S1", "S2"),
    {
        "images": 227_630,
        "templates": 12_115,
        "pairs": 8_010_270,
        "genuine": 10_270,
        "gallery_templates": 1_845,
        "probe_templates": 10_270,
    },
)
IJBC = Edition(
    "ijbc",
    "IJBC",
    ("G1", "G2"),
    {
        "images": 469_375,
        "templates": 23_124,
        "pairs": 15_658_489,
        "genuine": 19_557,
        "gallery1_templates": 1_772,
        "gallery2_templates": 1_759,
        "probe_templates": 19_593,
        "probe_rows": 457_519,
    },
)


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


class Lists(NamedTuple):
    """What the meta folder of a set says.

    Attributes:
        names: of the images, [n].
        landmarks: px of the file: left eye of the picture, right eye, nose, left and
            right corner of the mouth; float32 [n, 5, 2]; NaN where it has none.
        detector: the detector's score of each face, >= 0, float64 [n].
        template_ids: numbers of the templates, ascending int64 [t].
        templates: of each image, as a row of `template_ids`, int64 [n].
        media: number of each image's medium, int64 [n].
        left: first template of each pair, as a row of `template_ids`, int32 [p];
            pairs are in order of the first, then of the second one.
        right: second one, int32 [p].
        genuine: whether both are of one person, bool [p].
        galleries: both, or none where 1:N is left out.
        probes: None likewise.
        notes: sentences on what is odd.
    """

    names: list[str]
    landmarks: np.ndarray
    detector: np.ndarray
    template_ids: np.ndarray
    templates: np.ndarray
    media: np.ndarray
    left: np.ndarray
    right: np.ndarray
    genuine: np.ndarray
    galleries: tuple[Enrolled, ...]
    probes: Enrolled | None
    notes: list[str]


def find_folder(edition: Edition, path: Path) -> Path:
    """Returns the folder that has `meta/`: IJBB or IJBC in `path`, or `path` itself.

    Raises:
        DataError: there is none.
    """
    for folder in (path / edition.folder, path):
        if (folder / "meta").is_dir():
            return folder
    raise DataError(
        f"{path}: got no {edition.folder}/meta and no meta in it, expected the "
        f"folder of {edition.folder} or the one above; set eval.path"
    )


def read_lists(edition: Edition, meta: Path, *, identification: bool = True) -> Lists:
    """Reads and checks the lists of a set.

    Args:
        edition: IJBB or IJBC.
        meta: folder of the lists.
        identification: whether the 1:N lists are read.

    Raises:
        DataError: a list is missing or cannot be read; the two lists of images do not
            agree row by row; an image stands twice; a pair or a 1:N list names a
            template without images; a pair stands with both labels; a template has two
            subjects; a gallery is empty.
    """
    path = meta / f"{edition.name}_name_5pts_score.txt"
    names, landmarks, detector = _read_faces(path)
    template_of, media = _read_templates(
        meta / f"{edition.name}_face_tid_mid.txt", names
    )
    _check_unique(path, names)
    ids, templates = np.unique(template_of, return_inverse=True)
    pairs = meta / f"{edition.name}_template_pair_label.txt"
    left, right, genuine, notes = _read_pairs(pairs, ids)
    galleries: tuple[Enrolled, ...] = ()
    probes = None
    if identification:
        stem = f"{edition.name}_1N"
        galleries = tuple(
            _read_enrolled(meta / f"{stem}_gallery_{which}.csv", ids)
            for which in edition.galleries
        )
        probes = _read_enrolled(meta / f"{stem}_probe_mixed.csv", ids)
        subjects = _subjects(meta, [*galleries, probes], ids)
        notes += _identity_notes(galleries, subjects, left, right, genuine)
    return Lists(
        names, landmarks, detector, ids, templates, media, left, right, genuine,
        galleries, probes, notes,
    )  # fmt: skip


def counts(lists: Lists) -> dict[str, int]:
    """Returns how many there are of what: the keys of `Edition.expected` and more."""
    media = np.unique(np.stack([lists.templates, lists.media]), axis=1)
    found = {
        "images": len(lists.names),
        "templates": len(lists.template_ids),
        "media": media.shape[1],
        "pairs": len(lists.genuine),
        "genuine": int(lists.genuine.sum()),
        "without_landmarks": int((~np.isfinite(lists.landmarks)).any((1, 2)).sum()),
    }
    if lists.probes is None:
        return found
    every = [*lists.galleries, lists.probes]
    for name, one in zip(("gallery1", "gallery2", "probe"), every, strict=True):
        found[f"{name}_templates"] = len(one.templates)
        found[f"{name}_rows"] = one.rows
    found["gallery_templates"] = sum(len(one.templates) for one in lists.galleries)
    found["subjects"] = len(np.unique(np.concatenate([one.subjects for one in every])))
    return found


def differences(found: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Returns a sentence for each count that is not the published one."""
    return [
        f"{name.replace('_', ' ')}: got {found[name]:,}, published are {count:,}"
        for name, count in expected.items()
        if name in found and found[name] != count
    ]


def missing_images(folder: Path, names: Sequence[str]) -> int:
    """Returns how many of the named files are not in a folder.

    Raises:
        DataError: the folder cannot be read, or holds none of them.
    """
    try:
        with os.scandir(folder) as entries:
            present = {entry.name for entry in entries}
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read: {error.strerror}; expected the images that "
            f"the lists name, such as {names[0]}"
        ) from error
    missing = sum(name not in present for name in names)
    if missing == len(names):
        raise DataError(
            f"{folder}: got none of the {counted(missing, 'image')} that the lists "
            f"name, such as {names[0]}; unpack the images there"
        )
    return missing


def facts(edition: Edition, folder: Path, lists: Lists) -> dict[str, Any]:
    """Returns what a manifest says of a set: counts read, published, what is odd."""
    found, expected = counts(lists), edition.expected
    wrong = differences(found, expected)
    whole = [f"not the whole published set: {'; '.join(wrong)}"] if wrong else []
    return {
        "set": edition.name,
        "path": str(folder),
        "counts": found,
        "expected": expected,
        "notes": [*whole, *lists.notes],
    }


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


def _read_faces(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns names [n], landmarks [n, 5, 2] and detector's scores [n]."""
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


def _read_templates(path: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns number of template and of medium of each image, int64 [n]."""
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


def _check_unique(path: Path, names: list[str]) -> None:
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


def _read_pairs(
    path: Path, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Returns rows of `ids` of both templates, whether they are one person, notes."""
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


def _read_enrolled(path: Path, ids: np.ndarray) -> Enrolled:
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
    found = _rows_of(path, templates, ids).astype(np.int64)
    return Enrolled(found, subjects, len(rows))


def _subjects(meta: Path, lists: Sequence[Enrolled], ids: np.ndarray) -> np.ndarray:
    """Returns the subject of each template, int64 [t]; -1 of those in no list."""
    subjects = np.full(len(ids), -1, np.int64)
    for one in lists:
        before = subjects[one.templates]
        clash = np.flatnonzero((before >= 0) & (before != one.subjects))
        if len(clash):
            raise DataError(
                f"{meta}: the 1:N lists have template {ids[one.templates[clash[0]]]} "
                f"as subject {before[clash[0]]} and as {one.subjects[clash[0]]}; "
                "expected one subject for each template"
            )
        subjects[one.templates] = one.subjects
    return subjects


def _identity_notes(
    galleries: Sequence[Enrolled],
    subjects: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    genuine: np.ndarray,
) -> list[str]:
    """Returns what is odd about who is who; the numbers stand nevertheless."""
    notes = []
    one, other = subjects[left], subjects[right]
    known = (one >= 0) & (other >= 0)
    wrong = int((known & ((one == other) != genuine)).sum())
    if wrong:
        labels = counted(wrong, "pair")
        notes.append(f"{labels} with a label against the subjects of 1:N")
    both = len(np.intersect1d(galleries[0].subjects, galleries[1].subjects))
    if both:
        notes.append(f"{counted(both, 'subject')} in both galleries, expected none")
    for number, gallery in enumerate(galleries, start=1):
        more = len(gallery.subjects) - len(np.unique(gallery.subjects))
        if more:
            beyond = counted(more, "template")
            notes.append(f"gallery {number} has {beyond} beyond one a person")
    return notes
