"""CFP's pairs: frontal with frontal faces (FF), and frontal with profile (FP).

Layout as published: `Protocol/Split/{FF,FP}/01 .. 10/{same,diff}.txt` with a pair of
numbers a line, `3,17`, counted from 1 in `Protocol/Pair_list_F.txt` (frontal) and
`Protocol/Pair_list_P.txt` (profile), whose lines are
`3 ../Data/Images/001/frontal/03.jpg`.
"""

import re
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_folder import differences
from qface_jax.data_pipelines.sets.pair_lists import PairList
from qface_jax.errors import DataError

SPLITS = "Protocol/Split"
FOLDER = "Data/Images"
PUBLISHED_COUNTS = {
    "pairs": 7000, "same": 3500, "folds": 10, "frontal_images": 5000,
    "profile_images": 2000,
}  # fmt: skip

_LISTS = {"F": "Pair_list_F.txt", "P": "Pair_list_P.txt"}
_KINDS = ("FF", "FP")
# Person, view, number: the end of a path, which is the place within `Data/Images`.
_PLACE = re.compile(r"(?:^|.*/)([^/]+/(?:frontal|profile)/[^/]+)\.\w+$")
_FOLD = re.compile(r"\d+")


def read_split(path: Path) -> PairList:
    """Reads the lists of one kind of pairs.

    Args:
        path: the folder `Protocol/Split/FF` or `FP`.

    Raises:
        DataError: a list is missing, or a line has another form.
    """
    kind = path.name.upper()
    if kind not in _KINDS:
        raise DataError(
            f"{path}: got a folder as a list of pairs, expected CFP's "
            f"{SPLITS}/{' or '.join(_KINDS)}, or a file"
        )
    images = {
        side: _numbered(path.parents[1] / name)
        for side, name in _LISTS.items()
        if side in kind
    }
    folds = sorted(
        (one for one in _entries(path) if _FOLD.fullmatch(one.name)),
        key=lambda one: int(one.name),
    )
    stems: list[str] = []
    issame: list[bool] = []
    for fold in folds:
        for name, same in (("same.txt", True), ("diff.txt", False)):
            pairs = _pairs(fold / name, *(images[side] for side in kind))
            stems += pairs
            issame += [same] * (len(pairs) // 2)
    if not issame:
        raise DataError(f"{path}: got no pair, expected 01/same.txt and so on")
    counts = {
        "pairs": len(issame),
        "same": sum(issame),
        "folds": len(folds),
        "frontal_images": len(images["F"]),
        "profile_images": len(images.get("P", ())),
    }
    expected = {
        name: count
        for name, count in PUBLISHED_COUNTS.items()
        if name != "profile_images" or "P" in kind
    }
    notes = differences(counts, expected)
    return PairList(stems, np.asarray(issame), (), len(folds), notes)


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text("utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; it belongs to CFP's protocol: "
            "copy the folder again"
        ) from error
    return [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]


def _numbered(path: Path) -> dict[int, str]:
    """Returns the place of each image of a list, without ending."""
    places: dict[int, str] = {}
    for number, line in _lines(path):
        columns = line.split(maxsplit=1)
        place = _PLACE.match(columns[-1])
        if len(columns) != 2 or not columns[0].isdigit() or place is None:
            raise DataError(
                f"{path}: line {number} is {line[:80]!r}, expected a number and a path "
                "such as '1 ../Data/Images/001/frontal/01.jpg'"
            )
        places[int(columns[0])] = place[1]
    return places


def _pairs(path: Path, first: dict[int, str], second: dict[int, str]) -> list[str]:
    """Returns the places of the images of a list of pairs, pair by pair."""
    stems = []
    for number, line in _lines(path):
        columns = [column.strip() for column in line.split(",")]
        if len(columns) != 2 or not all(column.isdigit() for column in columns):
            raise DataError(
                f"{path}: line {number} is {line[:80]!r}, expected two numbers, such "
                "as '3,17'"
            )
        for column, images in zip(columns, (first, second), strict=True):
            if int(column) not in images:
                raise DataError(
                    f"{path}: line {number} has image {column}, expected one of the "
                    f"{len(images):,} numbers of its list of images"
                )
            stems.append(images[int(column)])
    return stems
