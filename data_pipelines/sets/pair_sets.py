"""Verification sets: pairs of images and whether each shows one person."""

import logging
import re
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.stream.picture import IMAGE_SUFFIXES
from qface_jax.data_pipelines.tools.known_sets import KNOWN_FOLDS, KNOWN_PAIR_COUNTS
from qface_jax.errors import ConfigError, DataError

LIST_SEPARATOR = "::"
_SUFFIXES = (*IMAGE_SUFFIXES, *(ending.upper() for ending in IMAGE_SUFFIXES))
_SHOWN = 5  # missing files that are named; the others are counted
_log = logging.getLogger(__name__)


class PairSet(Protocol):
    """2p encoded images; pair i is images 2i and 2i + 1."""

    name: str
    issame: np.ndarray  # bool [p]
    folds: int  # that the set is published with; 0: not known

    def __len__(self) -> int:
        """Returns 2p, the count of images."""

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded images; thread-safe."""

    def describe(self) -> dict:
        """Returns json-able facts: set, path, images, pairs, same, notes."""


class PickledPairs:
    """The pairs of a `.bin` file as insightface ships them."""

    def __init__(self, path: Path):
        """Reads the file; see `load_pair_pickle` for what is refused."""
        self.name = path.stem
        self._path = path
        self._images, self.issame = load_pair_pickle(path)
        self.notes = []
        known = KNOWN_PAIR_COUNTS.get(self.name)
        self.folds = KNOWN_FOLDS if known == len(self.issame) else 0
        if known is not None and known != len(self.issame):
            self.notes.append(
                f"{self.name} is published with {known} pairs, the file has "
                f"{len(self.issame)}"
            )

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded images; pair i is images 2i and 2i + 1."""
        return [self._images[index] for index in np.asarray(indices)]

    def describe(self) -> dict:
        """Returns path, counts and what is odd about the file."""
        return {
            "set": self.name,
            "path": str(self._path),
            "images": len(self),
            "pairs": len(self.issame),
            "same": int(self.issame.sum()),
            "notes": list(self.notes),
        }


class ListedPairs:
    """The pairs of a text file over a folder `name/name_0001.jpg`."""

    def __init__(self, list_path: Path, folder: Path):
        """Reads the list and finds every image.

        Args:
            list_path: one pair per line: `name i j` for the same person, `name i
                other j` for two; columns are divided by tabs or blanks. A first line
                of one or two counts (folds, pairs) is recognised.
            folder: of the images, in .jpg or .png.

        Raises:
            DataError: where a line has another form, or images are missing.
        """
        self.name = list_path.stem
        self._list_path, self._folder = list_path, folder
        people, numbers, self.issame, self.header = _parse(list_path)
        self._paths = _find_images(list_path, folder, people, numbers)
        self.folds = self.header[0] if len(self.header) == 2 else 0
        self.notes = []
        if self.header:
            declared = 2 * int(np.prod(self.header))
            if declared != len(self.issame):
                self.notes.append(
                    f"the first line declares {declared} pairs, the file has "
                    f"{len(self.issame)}"
                )

    def __len__(self) -> int:
        return len(self._paths)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the files of the given images; pair i is images 2i and 2i + 1."""
        images = []
        for index in np.asarray(indices):
            path = self._paths[index]
            try:
                images.append(path.read_bytes())
            except OSError as error:
                message = f"{path}: cannot be read: {error.strerror}"
                raise DataError(message) from error
        return images

    def describe(self) -> dict:
        """Returns path, counts and what is odd about the list."""
        return {
            "set": self.name,
            "path": str(self._list_path),
            "folder": str(self._folder),
            "images": len(self),
            "pairs": len(self.issame),
            "same": int(self.issame.sum()),
            "header": list(self.header),
            "notes": list(self.notes),
        }


def _parse(path: Path) -> tuple[list[str], list[int], np.ndarray, tuple[int, ...]]:
    """Returns names and numbers of 2p images, issame [p], counts of the header."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    people: list[str] = []
    numbers: list[int] = []
    issame: list[bool] = []
    header: tuple[int, ...] = ()
    for row, line in enumerate(lines, start=1):
        columns = [c for c in re.split(r"\t+" if "\t" in line else r"\s+", line) if c]
        if not columns:
            continue
        if row == 1 and len(columns) <= 2 and all(c.isdigit() for c in columns):
            header = tuple(int(c) for c in columns)
            continue
        same = len(columns) == 3
        # `name i j` is short for `name i name j`.
        full = [columns[0], columns[1], columns[0], columns[2]] if same else columns
        if len(full) != 4 or not (full[1].isdigit() and full[3].isdigit()):
            raise DataError(
                f"{path}: line {row} is {line[:80]!r}, expected 'name i j' (same "
                "person) or 'name i other j' (two persons)"
            )
        people += [full[0], full[2]]
        numbers += [int(full[1]), int(full[3])]
        issame.append(same)
    if not issame:
        raise DataError(f"{path}: holds no pair")
    return people, numbers, np.asarray(issame), header


def _find_images(
    list_path: Path, folder: Path, people: list[str], numbers: list[int]
) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it should hold name/name_0001.jpg")
    files: dict[Path, Path] = {}
    paths, missing = [], []
    for person, number in zip(people, numbers, strict=True):
        stem = folder / person / f"{person}_{number:04d}"
        if stem not in files:
            candidates = (stem.with_name(stem.name + end) for end in _SUFFIXES)
            path = next((file for file in candidates if file.is_file()), None)
            if path is None:
                missing.append(f"{person}/{stem.name}")
                path = stem
            files[stem] = path
        paths.append(files[stem])
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        raise DataError(
            f"{folder}: {len(missing)} of {len(files)} images of {list_path.name} are "
            f"missing (.jpg or .png): {shown}{', ...' if len(missing) > _SHOWN else ''}"
        )
    return paths


def open_pair_set(spec: str, eval_config: ConfigDict) -> PairSet:
    """Opens a verification set; what is odd about it is logged.

    Args:
        spec: "synthetic", a `.bin` file, or "pairs.txt::image folder".
        eval_config: the group `eval` of a config; `path` (folder of the files, '' for
            this one) and `synthetic` are read.

    Raises:
        ConfigError: where `spec` has none of these forms.
        DataError: where the files do not hold what they should.
    """
    pairs: PairSet
    base = Path(eval_config.path).expanduser()
    if spec == "synthetic":
        from qface_jax.data_pipelines.synthetic.faces import SyntheticPairs

        return SyntheticPairs(**eval_config.synthetic)
    if LIST_SEPARATOR in spec:
        list_path, folder = spec.split(LIST_SEPARATOR, 1)
        pairs = ListedPairs(
            base / Path(list_path).expanduser(), base / Path(folder).expanduser()
        )
    elif spec.endswith(".bin"):
        pairs = PickledPairs(base / Path(spec).expanduser())
    else:
        raise ConfigError(
            f"eval.sets: got {spec!r}, must be 'synthetic', a .bin file or "
            "'pairs.txt::image folder'"
        )
    for note in pairs.describe()["notes"]:
        _log.warning("%s: %s", spec, note)
    return pairs
