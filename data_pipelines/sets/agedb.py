"""AgeDB's pairs: a MATLAB file of ten splits over photographs and their landmarks.

Layout as published, and as insightface's `agedb2pack.py` reads it:
`04_FINAL_protocol_30_years.mat` (pairs 30 years apart; 01, 02 and 03 are of 5, 10 and
20) and `03_Protocol_Images/<name>.jpg`, each with the 68 points of a face in
`<name>.pts`. The variable `splits` holds for each fold images [2, n] and n labels, 1 of
one person and -1 of two.
"""

import re
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_folder import differences
from qface_jax.data_pipelines.sets.mat_file import Nested, read_nested
from qface_jax.data_pipelines.sets.pair_lists import PairList
from qface_jax.errors import DataError

LIST_NAME = "04_FINAL_protocol_30_years.mat"
FOLDER = "03_Protocol_Images"
PUBLISHED_COUNTS = {"pairs": 6000, "same": 3000, "folds": 10}
SUFFIX, ENDING = ".mat", ".pts"  # of the list, and of the files of landmarks

_POINTS = 68
# Corners of the eye on the picture's left, of the other eye; nose; mouth: the points
# that insightface aligned its `agedb_30.bin` by.
_FIVE = ((36, 39), (42, 45), (33,), (48,), (54,))


def read_splits(path: Path) -> PairList:
    """Reads the list.

    Raises:
        DataError: it is missing, damaged, or holds something else.
    """
    folds = _children(read_nested(path, "splits"))
    stems: list[str] = []
    issame: list[bool] = []
    for number, fold in enumerate(folds, 1):
        names, labels = _fold(path, number, _unwrapped(fold))
        stems += names
        issame += labels
    if not issame:
        raise DataError(f"{path}: splits holds no pair: copy the file again")
    counts = {"pairs": len(issame), "same": sum(issame), "folds": len(folds)}
    notes = differences(counts, PUBLISHED_COUNTS)
    return PairList(stems, np.asarray(issame), (), len(folds), notes)


def read_landmarks(folder: Path, stems: list[str]) -> np.ndarray | None:
    """Returns the five landmarks of each image, from the files of 68 points.

    Args:
        folder: of the images and the files beside them.
        stems: of the images, within the folder.

    Returns:
        float32 [n, 5, 2], px; NaN where a file is missing or damaged. None where the
        folder has none of them, as that of aligned copies.
    """
    points_of = {stem: _points(folder / f"{stem}{ENDING}") for stem in set(stems)}
    if all(points is None for points in points_of.values()):
        return None
    nowhere = np.full((len(_FIVE), 2), np.nan, np.float32)
    return np.stack([nowhere if points_of[s] is None else points_of[s] for s in stems])


def _fold(path: Path, number: int, fold: Nested) -> tuple[list[str], list[bool]]:
    """Returns the stems of a fold's images, pair by pair, and its labels."""
    parts = _children(fold)
    images, labels = (*parts, None, None)[:2]
    labels = labels.values.ravel() if labels and labels.values is not None else None
    if images is None or labels is None or labels.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: split {number} of splits is no pair of images and labels, "
            "expected AgeDB's protocol: copy the file again"
        )
    if images.shape != (2, len(labels)) or len(images.children) != 2 * len(labels):
        raise DataError(
            f"{path}: split {number} has images {list(images.shape)} and {len(labels)} "
            f"labels, expected [2, {len(labels)}]"
        )
    if not np.isin(labels, (1, -1)).all():
        raise DataError(
            f"{path}: split {number} has labels {np.unique(labels).tolist()[:5]}, "
            "expected 1 and -1"
        )
    # MATLAB's order is by column, and a column is a pair.
    names = [_name(path, number, child) for child in images.children]
    return names, (labels == 1).tolist()


def _name(path: Path, number: int, image: Nested) -> str:
    """Returns the first text of an image's record; its age follows."""
    while image.children:
        image = image.children[0]
    name = image.text
    if not name or not re.fullmatch(r"[^/\\\0]+", name) or name in (".", ".."):
        raise DataError(
            f"{path}: split {number} has an image {name!r}, expected the name of a "
            "file without a folder"
        )
    return name.removesuffix(".jpg")


def _unwrapped(node: Nested) -> Nested:
    while len(node.children) == 1:
        node = node.children[0]
    return node


def _children(node: Nested) -> list[Nested]:
    """Returns what a cell array or a struct holds, one element around it taken off."""
    return _unwrapped(node).children or [node]


def _points(path: Path) -> np.ndarray | None:
    """Returns five points of a face, float32 [5, 2]; None where they cannot be read."""
    try:
        text = path.read_text("utf-8")
        inside = text[text.index("{") + 1 : text.index("}")].split()
        points = np.array(inside, np.float64).reshape(_POINTS, 2)
    except (OSError, ValueError):
        return None
    return np.stack([points[list(of)].mean(axis=0) for of in _FIVE]).astype(np.float32)
