"""SCface: mugshots of 130 people, and surveillance frames of them at three distances.

`all.txt` says which images there are and where their eyes, nose and mouth lie; labels
are of its names, `SSS_frontal`, `SSS_camC_D` and `SSS_cam8`. Images are looked for in
the folders of their kind alone: `surveillance_cameras_all` holds every frame once more.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_folder import differences
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.errors import DataError, counted

ROOT_NAME = "SCface_database"
LIST_NAME = "all.txt"
MUGSHOT = 0  # as a camera
VISIBLE = (1, 2, 3, 4, 5)  # cameras by day
NIGHT = (6, 7)  # the same places by infrared light
INFRARED_MUGSHOT = 8  # camera
DISTANCES = (1, 2, 3)
METRES = {1: 4.2, 2: 2.6, 3: 1.0}
TRAINING = range(1, 51)  # subjects that may be trained on
PUBLISHED_COUNTS = {
    "annotation_rows": 2990,
    "subjects": 130,
    "mugshots": 130,
    **{f"probes_distance_{distance}": 650 for distance in DISTANCES},
    "infrared_night": 780,
    "cam8": 130,
}
_MUGSHOTS = "mugshot_frontal_cropped_all"
_FRAMES = "surveillance_cameras_distance_"
_STEM = re.compile(r"(\d{3})_(?:frontal|cam(8)|cam([1-7])_([1-3]))")
_FORM = "SSS_frontal, SSS_camC_D (C 1..7, D 1..3) or SSS_cam8"
_COLUMNS = 9  # name; x and y of 4 points


class Annotations(NamedTuple):
    """The rows of `all.txt`, in its order.

    Attributes:
        stems: names of the images, without ending.
        subjects: int64 [n].
        cameras: MUGSHOT or 1 .. 8, int64 [n].
        distances: 1 (far) .. 3 (near); 0 of mugshots and camera 8, int64 [n].
        landmarks: left eye in the picture, other eye, nose, mouth, px, float32
            [n, 4, 2].
    """

    stems: list[str]
    subjects: np.ndarray
    cameras: np.ndarray
    distances: np.ndarray
    landmarks: np.ndarray

    def part(self, rows: np.ndarray) -> "Annotations":
        """Returns some of the rows, by number."""
        stems = [self.stems[row] for row in rows]
        return Annotations(stems, *(values[rows] for values in self[1:]))


class Scface(NamedTuple):
    """The mugshots and the frames of the cameras by day.

    Attributes:
        images: aligned by the landmarks of the list.
        rows: of the same images, in the same order.
        counts: of the list, by the names of PUBLISHED_COUNTS.
        expected: PUBLISHED_COUNTS.
        missing: numbers of the images that are not on disk.
        notes: what is odd about the folder, in sentences.
    """

    images: BenchmarkImages
    rows: Annotations
    counts: dict[str, int]
    expected: dict[str, int]
    missing: list[int]
    notes: list[str]


def is_scface(folder: Path) -> bool:
    """Returns whether a folder looks like SCface or holds it."""
    return _root(folder) is not None


def open_scface(folder: Path, *, name: str = "scface") -> Scface:
    """Opens the set.

    Args:
        folder: SCface_database, or what holds it.
        name: of the images.

    Raises:
        DataError: there is no such folder, or the list cannot be read, names what is no
            image of the set, or names an image twice.
    """
    root = _root(folder)
    if root is None:
        raise DataError(
            f"{folder}: is not SCface: expected {_FRAMES}1 .. 3, {_MUGSHOTS} and "
            f"{LIST_NAME} in it or in its {ROOT_NAME}"
        )
    everything = read_annotations(root / LIST_NAME)
    counts = counts_of(everything)
    used = np.flatnonzero(np.isin(everything.cameras, (MUGSHOT, *VISIBLE)))
    rows = everything.part(used)
    files, missing = _files(root, rows)
    if len(missing) == len(files):
        raise DataError(
            f"{root}: none of the {len(files):,} images of {LIST_NAME} is there, "
            f"expected them in {_FRAMES}1 .. 3 and {_MUGSHOTS}: unpack the set again"
        )
    notes = _notes(root, rows, counts, missing)
    facts = {
        "list": LIST_NAME,
        "missing": len(missing),
        "counts": counts,
        "expected": dict(PUBLISHED_COUNTS),
        "notes": list(notes),
    }
    images = BenchmarkImages(name, root, files, landmarks=rows.landmarks, facts=facts)
    return Scface(images, rows, counts, dict(PUBLISHED_COUNTS), missing, notes)


def read_annotations(path: Path) -> Annotations:
    """Reads `all.txt`: name and eight coordinates a line, by tabs or blanks.

    Raises:
        DataError: the file cannot be read, or a line has another form or a name that
            another line has.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"{path}: cannot be read: {reason}") from error
    lines_of: dict[str, int] = {}
    places, points = [], []
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns:
            continue
        stem = columns[0]
        if stem in lines_of:
            raise DataError(
                f"{path}: lines {lines_of[stem]} and {number} both are of {stem}, "
                "expected one line for each image; remove one"
            )
        lines_of[stem] = number
        places.append(_place(path, number, stem))
        points.append(_points(path, number, columns))
    if not places:
        raise DataError(f"{path}: holds no line, expected one for each image")
    subjects, cameras, distances = np.asarray(places, np.int64).T
    landmarks = np.asarray(points, np.float32).reshape(-1, 4, 2)
    return Annotations(list(lines_of), subjects, cameras, distances, landmarks)


def counts_of(rows: Annotations) -> dict[str, int]:
    """Returns how many rows there are of what, by the names of PUBLISHED_COUNTS."""
    visible = np.isin(rows.cameras, VISIBLE)
    return {
        "annotation_rows": len(rows.stems),
        "subjects": len(np.unique(rows.subjects)),
        "mugshots": int(np.sum(rows.cameras == MUGSHOT)),
        **{
            f"probes_distance_{distance}": int(
                np.sum(visible & (rows.distances == distance))
            )
            for distance in DISTANCES
        },
        "infrared_night": int(np.isin(rows.cameras, NIGHT).sum()),
        "cam8": int(np.sum(rows.cameras == INFRARED_MUGSHOT)),
    }


def _root(folder: Path) -> Path | None:
    return next(
        (root for root in (folder, folder / ROOT_NAME)
         if (root / f"{_FRAMES}1").is_dir()),
        None,
    )  # fmt: skip


def _place(path: Path, number: int, stem: str) -> tuple[int, int, int]:
    """Returns subject, camera and distance that a name says."""
    named = _STEM.fullmatch(stem)
    if named is None:
        raise DataError(
            f"{path}: line {number} is of {stem[:80]!r}, expected {_FORM}; remove the "
            "line"
        )
    subject, infrared, camera, distance = named.groups()
    return int(subject), int(infrared or camera or MUGSHOT), int(distance or 0)


def _points(path: Path, number: int, columns: list[str]) -> list[float]:
    try:
        values = [float(word) for word in columns[1:]]
    except ValueError:
        values = []
    if len(columns) != _COLUMNS or not values:
        raise DataError(
            f"{path}: line {number} is {' '.join(columns)[:80]!r}, expected a name and "
            "x and y of two eyes, nose and mouth: 8 numbers"
        )
    return values


def _files(root: Path, rows: Annotations) -> tuple[list[str], list[int]]:
    """Returns the files of the images, and the numbers of those that are not there."""
    listings: dict[str, dict[str, str]] = {}
    files, missing = [], []
    places = zip(rows.stems, rows.cameras, rows.distances, strict=True)
    for row, (stem, camera, distance) in enumerate(places):
        folder = _MUGSHOTS
        if camera != MUGSHOT:
            folder = f"{_FRAMES}{distance}/cam_{camera}"
        if folder not in listings:
            listings[folder] = _listing(root / folder)
        file = listings[folder].get(f"{stem}.jpg")
        if file is None:
            missing.append(row)
        files.append(f"{folder}/{file or f'{stem}.jpg'}")
    return files, missing


def _listing(folder: Path) -> dict[str, str]:
    """Returns the files of a folder: name in small letters -> name."""
    try:
        return {name.lower(): name for name in sorted(os.listdir(folder))}
    except OSError:
        return {}  # all its images count as missing


def _notes(
    root: Path, rows: Annotations, counts: dict[str, int], missing: list[int]
) -> list[str]:
    notes = differences(counts, PUBLISHED_COUNTS)
    if missing:
        named = ", ".join(rows.stems[row] for row in missing[:5])
        notes.append(
            f"not in {root}: {len(missing):,} of {counted(len(rows.stems), 'image')}: "
            f"{named}{', ...' if len(missing) > 5 else ''}"
        )
    return notes
