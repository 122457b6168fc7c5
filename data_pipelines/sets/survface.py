"""QMUL-SurvFace's test sets: identification with strangers, and verification.

Identities come from the `.mat` files, where they run from 1 to n; the number that a
file name begins with is another one. Probes of strangers have none.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.data_pipelines.sets.benchmark_folder import (
    differences,
    file_in,
    folder_with,
    images_in,
    listed_files,
    repeated_pairs,
)
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.sets.mat_file import (
    LabelledNames,
    read_labels,
    read_names,
)
from qface_jax.errors import DataError, counted

EXPECTED = {
    "gallery": 60294,
    "gallery_identities": 3000,
    "mated_probe": 60423,
    "unmated_probe": 121736,
    "unmated_without_identity": 28476,
    "verification_images": 10051,
    "positive_pairs": 5320,
    "negative_pairs": 5320,
}

_SEARCH, _PAIRS = "Face_Identification_Test_Set", "Face_Verification_Test_Set"
_EVALUATION = "Face_Identification_Evaluation"
_PAIR_EVALUATION = "Face_Verification_Evaluation"
_NUMBER = re.compile(r"\d+(?=_)")  # that a file name begins with


class SurvFaceSet(NamedTuple):
    """The test sets.

    Attributes:
        images: gallery, mated probes, probes of strangers, images of the pairs.
        gallery_ids: identity of each gallery image, from 0, int64 [g].
        probe_ids: identity of each mated probe, from 0, int64 [m].
        strangers: count of the probes of people that the gallery does not have.
        positive: numbers of the images of pairs of one person, int64 [a, 2].
        negative: of pairs of two persons, int64 [b, 2].
        counts: by the names of EXPECTED; and "missing": images of the lists that are
            not there.
        notes: sentences on what is not as published.
    """

    images: BenchmarkImages
    gallery_ids: np.ndarray
    probe_ids: np.ndarray
    strangers: int
    positive: np.ndarray
    negative: np.ndarray
    counts: dict[str, int]
    notes: list[str]


def open_survface(base: Path) -> SurvFaceSet:
    """Opens the test sets.

    Args:
        base: folder QMUL-SurvFace, or the one that holds it.

    Raises:
        DataError: a folder or list is missing, damaged or empty, or lists contradict
            each other.
    """
    root = folder_with(base, ("", "QMUL-SurvFace"), _SEARCH)
    lists = [root / _SEARCH, root / _EVALUATION]
    gallery, mated = (
        read_labels(file_in(lists, f"{name}_img_ID_pairs.mat"), f"{name}_set",
                    f"{name}_ids")
        for name in ("gallery", "mated_probe")
    )  # fmt: skip
    names, positive, negative = _pairs([root / _PAIRS, root / _PAIR_EVALUATION])
    listed = {
        root / _SEARCH / "gallery": gallery.names,
        root / _SEARCH / "mated_probe": mated.names,
        root / _PAIRS / "verification_images": names,
    }
    parts, missing = {}, 0
    for folder, of_list in listed.items():
        files, absent = listed_files(folder, of_list)
        parts[folder.name] = [f"{folder.parent.name}/{file}" for file in files]
        missing += absent
    strangers = list(images_in(root / _SEARCH / "unmated_probe").values())
    before = [
        *parts["gallery"],
        *parts["mated_probe"],
        *(f"{_SEARCH}/unmated_probe/{name}" for name in strangers),
    ]
    counts = {
        "gallery": len(gallery.names),
        "gallery_identities": len(np.unique(gallery.ids)),
        "mated_probe": len(mated.names),
        "unmated_probe": len(strangers),
        "unmated_without_identity": sum(not _NUMBER.match(name) for name in strangers),
        "verification_images": len(images_in(root / _PAIRS / "verification_images")),
        "positive_pairs": len(positive),
        "negative_pairs": len(negative),
        "missing": missing,
    }
    images = BenchmarkImages(
        "survface",
        root,
        [*before, *parts["verification_images"]],
        facts={"counts": counts, "expected": EXPECTED},
    )
    notes = [
        *differences(counts, EXPECTED),
        *repeated_pairs("positive_pairs_names.mat", positive),
        *repeated_pairs("negative_pairs_names.mat", negative),
        *_notes(gallery, mated, missing, root),
    ]
    _, known = np.unique(gallery.ids, return_inverse=True)
    return SurvFaceSet(
        images,
        known.astype(np.int64),
        _numbered(mated.ids, gallery.ids),
        len(strangers),
        positive + len(before),
        negative + len(before),
        counts,
        notes,
    )


def _numbered(ids: np.ndarray, gallery_ids: np.ndarray) -> np.ndarray:
    """Returns each identity's place among the gallery's, -1 where it has none."""
    known = np.unique(gallery_ids)
    place = np.searchsorted(known, ids)
    same = known[np.minimum(place, len(known) - 1)] == ids
    return np.where(same, place, -1)


def _pairs(folders: list[Path]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns the names of all images of the pairs, sorted, and the pairs' numbers."""
    tables = []
    for kind in ("positive", "negative"):
        name = f"{kind}_pairs_names"
        tables.append(read_names(file_in(folders, f"{name}.mat"), name, 2))
    names, numbers = np.unique(np.concatenate(tables), return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    positive, negative = np.split(numbers, [len(tables[0])])
    both = set(map(frozenset, positive.tolist())) & set(
        map(frozenset, negative.tolist())
    )
    if both:
        shown = " and ".join(
            str(names[number]) for number in sorted(min(both, key=min))
        )
        raise DataError(
            f"{folders[0]}: {counted(len(both), 'pair')} in both lists, of one person "
            f"and of two, such as {shown}; copy the lists again"
        )
    return names.tolist(), positive, negative


def _notes(
    gallery: LabelledNames, mated: LabelledNames, missing: int, root: Path
) -> list[str]:
    """Returns what else is not as published."""
    notes = []
    if missing:
        notes.append(
            f"{counted(missing, 'image')} of the lists not in {root}: scored as found "
            "by nobody"
        )
    alone = int(np.sum(~np.isin(mated.ids, gallery.ids)))
    if alone:
        notes.append(
            f"{counted(alone, 'mated probe')} without a mate in the gallery: counted "
            "as missed"
        )
    # One person has one number in all file names, and one identity.
    couples = {
        (match.group(), number)
        for names, ids in (gallery, mated)
        for name, number in zip(names, ids.tolist(), strict=True)
        if (match := _NUMBER.match(name))
    }
    people, ids = ({couple[side] for couple in couples} for side in (0, 1))
    if not len(people) == len(ids) == len(couples):
        notes.append(
            "identities of the .mat files and numbers of the file names do not match "
            f"one to one: {len(ids):,} and {len(people):,} in {len(couples):,} couples"
        )
    return notes
