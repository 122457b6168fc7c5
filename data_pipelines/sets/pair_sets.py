"""Verification sets: pairs of images and whether each shows one person."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sets.pair_list import ListedPairs
from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.tools.known_sets import KNOWN_PAIR_COUNTS
from qface_jax.errors import ConfigError

LIST_SEPARATOR = "::"
_log = logging.getLogger(__name__)


class PairSet(Protocol):
    """2p encoded images; pair i is images 2i and 2i + 1."""

    name: str
    issame: np.ndarray  # bool [p]

    def __len__(self) -> int:
        """Returns 2p, the count of images."""

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded images; thread-safe."""

    def describe(self) -> dict:
        """Returns json-able facts: set, path, images, pairs, same, notes."""


class PairsWithin:
    """Some consecutive pairs of a set, as a set."""

    def __init__(self, whole: PairSet, pairs: range):
        """Takes the pairs of `whole` that the range names."""
        self.name = whole.name
        self.issame = whole.issame[pairs.start : pairs.stop]
        self._whole, self._pairs = whole, pairs

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def fetch(self, indices: np.ndarray) -> list[bytes]:
        """Returns the encoded images, counted from the first of these pairs."""
        return self._whole.fetch(np.asarray(indices) + 2 * self._pairs.start)

    def describe(self) -> dict:
        """Returns the facts of the whole set."""
        return self._whole.describe()


class PickledPairs:
    """The pairs of a `.bin` file as insightface ships them."""

    def __init__(self, path: Path):
        """Reads the file; see `load_pair_pickle` for what is refused."""
        self.name = path.stem
        self._path = path
        self._images, self.issame = load_pair_pickle(path)
        self.notes = []
        known = KNOWN_PAIR_COUNTS.get(self.name)
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
