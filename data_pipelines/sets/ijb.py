"""IJB-B and IJB-C as insightface packs them: images, templates, pairs, galleries.

IJBC/loose_crop/1.jpg ...
IJBC/meta/ijbc_name_5pts_score.txt      name, 10 coordinates, detector's score
IJBC/meta/ijbc_face_tid_mid.txt         name, template, medium; row by row the same
IJBC/meta/ijbc_template_pair_label.txt  template, template, 1 same person or 0
IJBC/meta/ijbc_1N_gallery_G1.csv, ijbc_1N_gallery_G2.csv, ijbc_1N_probe_mixed.csv
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.ijb_files import (
    Enrolled,
    check_unique,
    read_enrolled,
    read_faces,
    read_pairs,
    read_templates,
)
from qface_jax.errors import DataError, counted


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
    names, landmarks, detector = read_faces(path)
    template_of, media = read_templates(
        meta / f"{edition.name}_face_tid_mid.txt", names
    )
    check_unique(path, names)
    ids, templates = np.unique(template_of, return_inverse=True)
    pairs = meta / f"{edition.name}_template_pair_label.txt"
    left, right, genuine, notes = read_pairs(pairs, ids)
    galleries: tuple[Enrolled, ...] = ()
    probes = None
    if identification:
        stem = f"{edition.name}_1N"
        galleries = tuple(
            read_enrolled(meta / f"{stem}_gallery_{which}.csv", ids)
            for which in edition.galleries
        )
        probes = read_enrolled(meta / f"{stem}_probe_mixed.csv", ids)
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
