"""TinyFace's test set: mates and distractors to search, and probes.

Identities come from the benchmark's `.mat` files; distractors have none, although
many of their names begin with a number that is an identity, too.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_folder import (
    differences,
    file_in,
    folder_with,
    images_in,
    listed_files,
)
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.sets.mat_file import LabelledNames, read_labels
from qface_jax.errors import ConfigError, DataError, counted

# What an image set may be called -> where its pictures are.
COPIES = {
    "raw": "the pictures as published",
    "aligned": "copies aligned to 112 px by AdaFace's authors, padding 0.1",
}
ALIGNED_FOLDER = "aligned_pad_0.1_pad_high"
EXPECTED = {
    "gallery_match": 4443,
    "distractor": 153428,
    "probe": 3728,
    "test_identities": 2569,
}
NOBODY = -1  # identity of a distractor

_TEST = "Testing_Set"
_EVALUATION = "Face_Identification_Evaluation"


class TinyFaceSet(NamedTuple):
    """The test set.

    Attributes:
        images: mates, then distractors, then probes.
        gallery_ids: identity of each gallery image, mates first, NOBODY of a
            distractor, int64 [g].
        probe_ids: identity of each probe, int64 [p]; its images follow the gallery's.
        copies: key of COPIES.
        counts: images of each kind, identities, by the names of EXPECTED; and
            "missing": images of the lists that are not there.
        notes: sentences on what is not as published.
    """

    images: BenchmarkImages
    gallery_ids: np.ndarray
    probe_ids: np.ndarray
    copies: str
    counts: dict[str, int]
    notes: list[str]


def open_tinyface(base: Path, copies: str) -> TinyFaceSet:
    """Opens the test set.

    Args:
        base: folder that holds `tinyface/` and, beside it, the aligned copies; or
            `tinyface` itself.
        copies: "raw" or "aligned".

    Raises:
        ConfigError: `copies` is neither.
        DataError: a folder or list is missing, damaged or empty.
    """
    if copies not in COPIES:
        raise ConfigError(
            f"eval.sets: got {copies!r} as a set of TinyFace, must be raw or aligned"
        )
    root = folder_with(base, ("tinyface", ""), _TEST)
    lists = [root / _TEST, root / _EVALUATION]
    mates = _labels(lists, "gallery_match", "gallery")
    probes = _labels(lists, "probe", "probe")
    folder = root / _TEST
    if copies == "aligned":
        places = [base, root.parent, root]
        folder = next(
            (place / ALIGNED_FOLDER for place in places
             if (place / ALIGNED_FOLDER).is_dir()), None,
        )  # fmt: skip
        if folder is None:
            raise DataError(
                f"no folder {base / ALIGNED_FOLDER}; it must hold the aligned copies "
                "of Gallery_Match, Gallery_Distractor and Probe"
            )
    return _assembled(folder, copies, mates, probes)


def _labels(folders: list[Path], file: str, variable: str) -> LabelledNames:
    path = file_in(folders, f"{file}_img_ID_pairs.mat")
    return read_labels(path, f"{variable}_set", f"{variable}_ids")


def _assembled(
    folder: Path, copies: str, mates: LabelledNames, probes: LabelledNames
) -> TinyFaceSet:
    mate_files, missing_mates = listed_files(folder / "Gallery_Match", mates.names)
    probe_files, missing_probes = listed_files(folder / "Probe", probes.names)
    others = images_in(folder / "Gallery_Distractor").values()
    distractors = [f"Gallery_Distractor/{name}" for name in others]
    counts = {
        "gallery_match": len(mate_files),
        "distractor": len(distractors),
        "probe": len(probe_files),
        "test_identities": len(np.union1d(mates.ids, probes.ids)),
        "missing": missing_mates + missing_probes,
    }
    notes = differences(counts, EXPECTED)
    if counts["missing"]:
        notes.append(
            f"{counted(counts['missing'], 'image')} of the lists not in {folder}: "
            "scored as found by nobody"
        )
    alone = int(np.sum(~np.isin(probes.ids, mates.ids)))
    if alone:
        probe = counted(alone, "probe")
        notes.append(f"{probe} without a mate in the gallery: counted as missed")
    images = BenchmarkImages(
        f"tinyface_{copies}",
        folder,
        [*mate_files, *distractors, *probe_files],
        facts={"copies": COPIES[copies], "counts": counts, "expected": EXPECTED},
    )
    gallery_ids = np.concatenate([mates.ids, np.full(len(distractors), NOBODY)])
    return TinyFaceSet(images, gallery_ids, probes.ids, copies, counts, notes)
