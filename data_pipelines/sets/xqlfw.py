"""XQLFW: pairs of LFW photographs that differ in quality, as listed by its authors."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_folder import (
    aligner_of,
    differences,
    repeated_pairs,
)
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.sets.pair_lists import find_images, read_pair_list
from qface_jax.errors import DataError, counted

LIST_NAME = "xqlfw_pairs.txt"
ALIGNED_NAME = "xqlfw_aligned_112"  # of the copies of 112 px
PUBLISHED_COUNTS = {"pairs": 6000, "same": 3000, "folds": 10, "images": 7263}


class Xqlfw(NamedTuple):
    """The pairs, and the images that they are of, each once.

    Attributes:
        images: by number; those that the folder lacks stand at the path where they
            should be.
        first: number of the first image of each pair, int64 [p].
        second: of the second, int64 [p].
        issame: bool [p].
        folds: of the list's first line; 0 without.
        counts: by the names of PUBLISHED_COUNTS.
        expected: PUBLISHED_COUNTS.
        missing: numbers of the images that are not in the folder.
        notes: what is odd about list and folder, in sentences.
    """

    images: BenchmarkImages
    first: np.ndarray
    second: np.ndarray
    issame: np.ndarray
    folds: int
    counts: dict[str, int]
    expected: dict[str, int]
    missing: list[int]
    notes: list[str]


def open_xqlfw(path: Path, *, folder: str = ALIGNED_NAME, name: str = "xqlfw") -> Xqlfw:
    """Opens the list and finds its images.

    Args:
        path: holds xqlfw_pairs.txt and the folder of images.
        folder: of the images, within `path`: `name/name_0001.jpg`.
        name: of the images.

    Raises:
        DataError: there is no list or no such folder, a line has another form, or none
            of the images is there.
    """
    listed = read_pair_list(path / LIST_NAME)
    place = path / folder
    if not place.is_dir():
        raise DataError(
            f"{place}: no such folder, expected name/name_0001.jpg in it; set "
            f"--config.eval.xqlfw.folder=FOLDER, as it is called within {path}"
        )
    stems, rows = np.unique(np.asarray(listed.stems), return_inverse=True)
    files = find_images(place, stems.tolist())
    missing = [row for row, file in enumerate(files) if file is None]
    if len(missing) == len(files):
        raise DataError(
            f"{place}: got none of the {len(files):,} images of {LIST_NAME}, expected "
            f"files such as {stems[0]}.jpg"
        )
    counts = {
        "pairs": len(listed.issame),
        "same": int(listed.issame.sum()),
        "folds": listed.folds,
        "images": len(stems),
    }
    notes = _notes(counts, listed.notes, missing, stems.tolist(), place)
    notes += repeated_pairs(LIST_NAME, rows.reshape(-1, 2))
    by_authors = "none"
    if folder == ALIGNED_NAME:
        by_authors = "MTCNN, copies of XQLFW's authors"
    facts = {
        "list": str(path / LIST_NAME),
        "aligner": aligner_of(place) or by_authors,
        "missing": len(missing),
        "counts": counts,
        "expected": dict(PUBLISHED_COUNTS),
        "notes": list(notes),
    }
    images = BenchmarkImages(
        name,
        place,
        [file or f"{stem}.jpg" for file, stem in zip(files, stems, strict=True)],
        facts=facts,
    )
    return Xqlfw(
        images=images,
        first=rows[0::2],
        second=rows[1::2],
        issame=listed.issame,
        folds=listed.folds,
        counts=counts,
        expected=dict(PUBLISHED_COUNTS),
        missing=missing,
        notes=notes,
    )


def _notes(
    counts: dict[str, int],
    listed: Sequence[str],
    missing: list[int],
    stems: list[str],
    place: Path,
) -> list[str]:
    notes = [*differences(counts, PUBLISHED_COUNTS), *listed]
    if missing:
        named = ", ".join(stems[row] for row in missing[:5])
        notes.append(
            f"not in {place}: {len(missing):,} of {counted(len(stems), 'image')}: "
            f"{named}{', ...' if len(missing) > 5 else ''}"
        )
    return notes
