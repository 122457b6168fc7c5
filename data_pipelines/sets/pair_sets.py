"""Verification sets: pairs of images and whether each shows one person."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sets import agedb, cfp
from qface_jax.data_pipelines.sets.benchmark_folder import aligner_of, repeated_pairs
from qface_jax.data_pipelines.sets.pair_lists import (
    PairList,
    find_images,
    read_pair_list,
    similar_names,
)
from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.stream.picture import PictureError, read_file
from qface_jax.data_pipelines.tools.known_sets import (
    KNOWN_FOLDS,
    KNOWN_LIST_COUNTS,
    KNOWN_PAIR_COUNTS,
)
from qface_jax.errors import ConfigError, DataError, printable

LIST_SEPARATOR = "::"
_LONGEST = 200  # characters of a name in a message
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
        known = KNOWN_PAIR_COUNTS.get(self.name)
        self.folds = KNOWN_FOLDS if known == len(self.issame) else 0
        self.notes = _other_count(self.name, known, len(self.issame))

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
    """The pairs of a list over a folder of images.

    Attributes:
        landmarks: of each image, float32 [2p, 5, 2], px; None: they are not known.
        missing: numbers of the images that are not in the folder; `fetch` refuses
            them.
        whole: whether all that the list's header, or its known name, promises is there.
    """

    def __init__(self, list_path: Path, folder: Path, name: str = ""):
        """Reads the list and finds its images.

        Args:
            list_path: text in one of the forms of `pair_lists`, the .mat file of AgeDB,
                or the folder `Protocol/Split/FF` or `FP` of CFP.
            folder: of the images, with any ending of pictures.
            name: of the set; "": that of the list.

        Raises:
            DataError: where a line has another form, or none of the images is there.
        """
        self.name = name or list_path.stem
        self._list_path, self._folder = list_path, folder
        listed = _read(list_path)
        self.issame, self.header, self.folds = (
            listed.issame,
            listed.header,
            listed.folds,
        )
        files = find_images(folder, listed.stems)
        self.missing = [row for row, file in enumerate(files) if file is None]
        absent = list(dict.fromkeys(listed.stems[row] for row in self.missing))
        distinct = len(set(listed.stems))
        if len(absent) == distinct:
            there = ", ".join(map(ascii, similar_names(folder, absent[0])))
            raise DataError(
                f"{folder}: got none of the {distinct:,} images of {list_path.name}, "
                f"expected files such as {absent[0][:_LONGEST]!a} with an ending "
                f"of pictures; where it should be is {there or 'nothing'}; give their "
                "folder: LIST::FOLDER in eval.sets"
            )
        self._paths = [
            folder / (file or f"{stem}.jpg")
            for file, stem in zip(files, listed.stems, strict=True)
        ]
        self.landmarks = None
        if list_path.suffix == agedb.SUFFIX:
            self.landmarks = agedb.read_landmarks(folder, listed.stems)
        known = KNOWN_LIST_COUNTS.get(list_path.stem)
        if known == len(self.issame):
            self.folds = self.folds or KNOWN_FOLDS
        self.notes = [
            *listed.notes, *_other_count(list_path.name, known, len(self.issame))
        ]  # fmt: skip
        if absent:
            shown = ", ".join(printable(stem) for stem in absent[:_SHOWN])
            self.notes.append(
                f"{len(absent):,} of {distinct:,} images are not in {folder}: {shown}"
                f"{', ...' if len(absent) > _SHOWN else ''}"
            )
        self.whole = not self.notes  # a pair that is listed again is there
        _, numbers = np.unique(np.asarray(listed.stems), return_inverse=True)
        self.notes += repeated_pairs(list_path.name, numbers.reshape(-1, 2))

    def __len__(self) -> int:
        return len(self._paths)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the files of the given images; pair i is images 2i and 2i + 1."""
        images = []
        for index in np.asarray(indices):
            path = self._paths[index]
            try:
                images.append(read_file(path))
            except PictureError as error:
                raise DataError(f"{printable(str(path))}: {error}") from error
            except OSError as error:
                message = f"{printable(str(path))}: cannot be read: {error.strerror}"
                raise DataError(message) from error
        return images

    def describe(self) -> dict:
        """Returns path, counts and what is odd about the list."""
        aligner = aligner_of(self._folder) or "none"
        if self.landmarks is not None:
            aligner = f"qface; landmarks: five of the 68 points in {agedb.ENDING}"
        return {
            "set": self.name,
            "path": str(self._list_path),
            "folder": str(self._folder),
            "images": len(self),
            "pairs": len(self.issame),
            "same": int(self.issame.sum()),
            "header": list(self.header),
            "whole": self.whole,
            "aligner": aligner,
            "notes": list(self.notes),
        }


def _other_count(name: str, known: int | None, pairs: int) -> list[str]:
    """Returns a sentence where a set has not as many pairs as published; else []."""
    if known in (None, pairs):
        return []
    return [f"{name} is published with {known} pairs, the file has {pairs}"]


def _read(list_path: Path) -> PairList:
    if list_path.suffix == agedb.SUFFIX:
        return agedb.read_splits(list_path)
    if list_path.is_dir():
        return cfp.read_split(list_path)
    return read_pair_list(list_path)


# Name of a set that is found by itself in the folder of the files -> folder that its
# authors packed it in, list, images.
PUBLISHED = {
    "agedb_30": ("AgeDB", agedb.LIST_NAME, agedb.FOLDER),
    "cfp_ff": ("cfp-dataset", f"{cfp.SPLITS}/FF", cfp.FOLDER),
    "cfp_fp": ("cfp-dataset", f"{cfp.SPLITS}/FP", cfp.FOLDER),
}


def _published(name: str, base: Path) -> ListedPairs:
    """Opens a set in the layout of its authors, in a folder or the one it holds."""
    packed, pairs, images = PUBLISHED[name]
    for root in (base, base / packed):
        if (root / pairs).exists():
            return ListedPairs(root / pairs, root / images, name)
    raise DataError(
        f"{base}: has neither {pairs} nor {packed}/{pairs}, the list of pairs of "
        f"{name}; give the folder that holds it, --config.eval.path=DIR"
    )


def open_pair_set(spec: str, eval_config: ConfigDict) -> PairSet:
    """Opens a verification set; what is odd about it is logged.

    Args:
        spec: "synthetic", a `.bin` file, "LIST::image folder" with a list as of
            `ListedPairs`, or a key of PUBLISHED.
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
    elif spec in PUBLISHED:
        pairs = _published(spec, base)
    elif spec.endswith(".bin"):
        pairs = PickledPairs(base / Path(spec).expanduser())
    else:
        raise ConfigError(
            f"eval.sets: got {spec!r}, must be 'synthetic', a .bin file, "
            f"'pairs.txt::image folder' or one of {', '.join(PUBLISHED)}"
        )
    for note in pairs.describe()["notes"]:
        _log.warning("%s: %s", spec, note)
    return pairs
