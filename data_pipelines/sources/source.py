"""Where training images come from, behind one protocol."""

import logging
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sources.image_folder import FolderSource
from qface_jax.data_pipelines.sources.joined_source import JoinedSource
from qface_jax.data_pipelines.sources.mxnet_source import MxnetSource
from qface_jax.errors import ConfigError, DataError

_log = logging.getLogger(__name__)


class Source(Protocol):
    """A set of labelled, encoded images with random access."""

    name: str
    num_classes: int

    def __len__(self) -> int:
        """Returns n, the count of images."""

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1."""

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and int32 labels of the records; thread-safe."""

    def describe(self) -> dict:
        """Returns json-able facts: source, path, images, identities, notes."""


@runtime_checkable
class NamesRecords(Protocol):
    """A source that can say where a record comes from."""

    def record_name(self, index: int) -> str:
        """Returns file and key of record `index`, for messages."""


class LargeIdentities:
    """A source without the identities that have too few images.

    The identities that stay are renumbered 0 .. c-1 in their old order.
    """

    def __init__(self, source: Source, minimum: int):
        """Counts the images of every identity.

        Args:
            source: what to take from.
            minimum: images an identity needs to stay, at least 1.

        Raises:
            DataError: where no identity has that many.
        """
        labels = source.labels()
        counts = np.bincount(labels, minlength=source.num_classes)
        stays = counts >= minimum
        if not stays.any():
            raise DataError(
                f"data.drop_small_identities: got {minimum}, but the largest identity "
                f"of {source.describe().get('path', source.name)} has {counts.max()} "
                "images"
            )
        self.name = source.name
        self.num_classes = int(stays.sum())
        self.left_out_identities = int(np.count_nonzero(counts)) - self.num_classes
        self._source = source
        self._minimum = minimum
        renumbered = np.cumsum(stays, dtype=np.int32) - 1
        kept = stays[labels]
        self._rows = np.flatnonzero(kept)
        self._labels = renumbered[labels[self._rows]].astype(np.int32)
        self.left_out_images = len(labels) - len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> np.ndarray:
        """Returns int32 [n], renumbered."""
        return self._labels

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and renumbered labels of the given records."""
        indices = np.asarray(indices)
        images, _ = self._source.fetch(self._rows[indices])
        return images, self._labels[indices]

    def record_name(self, index: int) -> str:
        """Returns where record `index` comes from."""
        return record_name(self._source, int(self._rows[index]))

    def describe(self) -> dict:
        """Returns the facts of the source underneath with the counts that are left."""
        return self._source.describe() | {
            "images": len(self),
            "identities": self.num_classes,
            "drop_small_identities": self._minimum,
            "left_out_identities": self.left_out_identities,
            "left_out_images": self.left_out_images,
        }


def record_name(source: Source, index: int) -> str:
    """Returns where record `index` of any source comes from, for messages."""
    if isinstance(source, NamesRecords):
        return source.record_name(index)
    return f"{source.name}: record {index}"


def _open_synthetic(data: ConfigDict) -> Source:
    from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces

    return SyntheticFaces(**data.synthetic.to_dict())


def _open_mxnet(data: ConfigDict) -> Source:
    return MxnetSource(_data_path(data))


def _open_folder(data: ConfigDict) -> Source:
    return FolderSource(_data_path(data))


def _open_array_record(data: ConfigDict) -> Source:
    # TensorFlow Datasets takes a second to import; the other sources do without.
    from qface_jax.data_pipelines.sources.array_record_source import (
        ArrayRecordSource,
    )

    return ArrayRecordSource(_data_path(data))


SOURCES = {
    "synthetic": _open_synthetic,
    "mxnet": _open_mxnet,
    "folder": _open_folder,
    "array_record": _open_array_record,
}


def open_source(data: ConfigDict) -> Source:
    """Opens the source that `config.data` names; what is odd about it is logged.

    Args:
        data: the group `data` of a config.

    Raises:
        ConfigError: where the name is unknown or the path missing.
        DataError: where the data does not hold what it should.
    """
    if data.source not in SOURCES:
        raise ConfigError(
            f"data.source: got {data.source!r}, must be one of {', '.join(SOURCES)}"
        )
    parts = [_at(data, path) for path in (data.path, *data.more_paths)]
    sources: list[Source] = [SOURCES[data.source](part) for part in parts]
    for part, own in zip(parts, sources, strict=True):
        for note in own.describe().get("notes", []):
            _log.warning("%s: %s", part.path, note)
    source = sources[0] if len(sources) == 1 else JoinedSource(sources)
    if data.drop_small_identities > 0:
        source = LargeIdentities(source, data.drop_small_identities)
        _log.warning(
            "data.drop_small_identities=%d: left out %d identities with %d images",
            data.drop_small_identities,
            source.left_out_identities,
            source.left_out_images,
        )
    return source


def _at(data: ConfigDict, path: str) -> ConfigDict:
    """The same group with another path."""
    other = ConfigDict(data.to_dict())
    other.path = path
    return other


def _data_path(data: ConfigDict) -> Path:
    if not data.path:
        raise ConfigError(
            f"data.path: empty, but data.source={data.source} needs a path; set "
            "--config.data.path=PATH"
        )
    return Path(data.path).expanduser()


def detect_source(path: Path) -> str:
    """Returns the key of SOURCES that fits what lies at `path`.

    Raises:
        DataError: where nothing there looks like a set of images.
    """
    if path.suffix == ".rec" or (path.is_dir() and any(path.glob("*.rec"))):
        return "mxnet"
    if (path / "dataset_info.json").is_file():
        return "array_record"
    if path.is_dir():
        return "folder"
    raise DataError(
        f"{path}: neither a .rec file, an imported set nor a folder of images"
    )
