"""Verification sets: pairs of images and whether each shows one person."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sets.benchmark_folder import repeated_pairs
from qface_jax.data_pipelines.sets.pair_lists import find_images, read_pair_list
from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.tools.known_sets import KNOWN_FOLDS, KNOWN_PAIR_COUNTS
from qface_jax.errors import ConfigError, DataError

LIST_SEPARATOR = "::"
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
    """The pairs of a text list over a folder of images."""

    def __init__(self, list_path: Path, folder: Path):
        """Reads the list and finds every image.

        Args:
            list_path: in one of the forms of `pair_lists`.
            folder: of the images, in .jpg or .png.

        Raises:
            DataError: where a line has another form, or images are missing.
        """
        self.name = list_path.stem
        self._list_path, self._folder = list_path, folder
        stems, self.issame, self.header = read_pair_list(list_path)
        self._paths = _files_of(list_path, folder, stems)
        self.folds = self.header[0] if len(self.header) == 2 else 0
        self.notes = []
        if self.header:
            declared = 2 * int(np.prod(self.header))
            if declared != len(self.issame):
                self.notes.append(
                    f"the first line declares {declared} pairs, the file has "
                    f"{len(self.issame)}"
                )
        _, numbers = np.unique(np.asarray(stems), return_inverse=True)
        self.notes += repeated_pairs(list_path.name, numbers.reshape(-1, 2))

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


def _files_of(list_path: Path, folder: Path, stems: list[str]) -> list[Path]:
    files = find_images(folder, stems)
    lost = [stem for stem, file in zip(stems, files, strict=True) if file is None]
    missing = list(dict.fromkeys(lost))
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        raise DataError(
            f"{folder}: {len(missing)} of {len(set(stems))} images of "
            f"{list_path.name} are missing (.jpg or .png): {shown}"
            f"{', ...' if len(missing) > _SHOWN else ''}"
        )
    return [folder / file for file in files]


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
