"""Folders of a benchmark as it is published: where they are, what is in them."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.stream.picture import IMAGE_SUFFIXES
from qface_jax.errors import DataError, counted

ALIGN_REPORT = "align.json"  # what `qface data align` writes beside its crops


def folder_with(base: Path, parts: Sequence[str], inner: str) -> Path:
    """Returns the first of some folders that holds another one.

    Args:
        base: folder that the user named.
        parts: folders within it, "" for itself, in the order they are looked at.
        inner: folder that must be in it.

    Raises:
        DataError: none of them does.
    """
    for part in parts:
        if (base / part / inner).is_dir():
            return base / part
    places = " or ".join(str(base / part / inner) for part in parts)
    raise DataError(
        f"no folder {places}; give the folder of the benchmark with --config.eval.path"
    )


def file_in(folders: Iterable[Path], name: str) -> Path:
    """Returns the path of a file in the first folder that has it.

    Raises:
        DataError: none has it.
    """
    paths = [folder / name for folder in folders]
    for path in paths:
        if path.is_file():
            return path
    raise DataError(f"no file {' or '.join(map(str, paths))}; it holds the labels")


def images_in(folder: Path) -> dict[str, str]:
    """Returns the images of a folder: name without its ending -> name, sorted.

    Raises:
        DataError: the folder cannot be read, or two files differ in their ending only.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    images: dict[str, str] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending.lower() not in IMAGE_SUFFIXES or name.startswith("."):
            continue
        if stem in images:
            raise DataError(
                f"{folder}: has {images[stem]} and {name}; an image must be there once"
            )
        images[stem] = name
    return images


def listed_files(folder: Path, names: Sequence[str]) -> tuple[list[str], int]:
    """Returns the files of the images that a list names, and how many are missing.

    An image may have another ending than in the list, as aligned copies do. What is
    missing keeps its name of the list: it cannot be read, and is scored so.

    Args:
        folder: of the images.
        names: of the list.

    Returns:
        paths within the parent of the folder [n]; count of those that are not there.
    """
    there = images_in(folder)
    found = [there.get(os.path.splitext(name)[0]) for name in names]
    files = [
        f"{folder.name}/{file or name}" for file, name in zip(found, names, strict=True)
    ]
    return files, found.count(None)


def aligner_of(folder: Path) -> str | None:
    """Returns what placed the faces of a folder, where `qface data align` wrote it."""
    try:
        plan = json.loads((folder / ALIGN_REPORT).read_text("utf-8"))["plan"]
        return f"{plan['aligner']}; landmarks: {plan['detector']['name']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def repeated_pairs(name: str, pairs: np.ndarray) -> list[str]:
    """Returns a sentence where pairs are listed more than once; [] if none is.

    They are scored as often as they are listed.

    Args:
        name: of the list.
        pairs: numbers of the two images, in either order, int64 [p, 2].
    """
    repeated = len(pairs) - len(np.unique(np.sort(pairs, axis=1), axis=0))
    if not repeated:
        return []
    return [f"{name}: {counted(repeated, 'pair')} listed again, and scored again"]


def differences(counts: Mapping[str, int], expected: Mapping[str, int]) -> list[str]:
    """Returns a sentence where counts are not those of the published set; [] if so."""
    wrong = [
        f"{counts[name]:,} {name.replace('_', ' ')} instead of {number:,}"
        for name, number in expected.items()
        if counts[name] != number
    ]
    if not wrong:
        return []
    return [
        f"the set is not the published one: {', '.join(wrong)}; its numbers cannot be "
        "compared with published ones"
    ]
