"""Where training images come from, behind one protocol."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax import tables
from qface_jax.data_pipelines.sources.records import Source, record_name
from qface_jax.data_pipelines.sources.selected_records import large_identities
from qface_jax.data_pipelines.sources.subset import Subset, random_subset
from qface_jax.errors import ConfigError, DataError
from qface_jax.options import Option

_log = logging.getLogger(__name__)


class SourceEntry(NamedTuple):
    """A kind of source, an entry of `qface_jax.tables.SOURCES`.

    Attributes:
        open: path, and the options by keyword -> Source. Raises DataError where the
            data does not hold what it should.
        options: by name.
        detects: whether what lies at a path looks like this kind.
        needs_path: False: `open` looks at no path.
    """

    open: Callable[..., Source]
    options: Mapping[str, Option] = {}
    detects: Callable[[Path], bool] = lambda path: False
    needs_path: bool = True


class JoinedSource:
    """Sets of images whose identities are taken to be different people.

    Record i of set k is record n_1 + .. + n_{k-1} + i, and likewise its label.
    """

    def __init__(self, sources: list[Source]):
        """Joins at least one source."""
        self.name = " + ".join(source.name for source in sources)
        self.num_classes = sum(source.num_classes for source in sources)
        self._sources = sources
        self._starts = np.cumsum([0, *(len(source) for source in sources)])
        self._first = np.cumsum([0, *(source.num_classes for source in sources)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1."""
        sources = zip(self._sources, self._first, strict=False)
        labels = [source.labels() + first for source, first in sources]
        return np.concatenate(labels).astype(np.int32)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and int32 labels of the records."""
        indices = np.asarray(indices)
        images: list[bytes] = [b""] * len(indices)
        labels = np.empty(len(indices), np.int32)
        owners = self._owners(indices)
        for number in np.unique(owners):
            rows = np.flatnonzero(owners == number)
            encoded, source_labels = self._sources[number].fetch(
                indices[rows] - self._starts[number]
            )
            labels[rows] = source_labels + self._first[number]
            for row, image in zip(rows, encoded, strict=True):
                images[row] = image
        return images, labels

    def record_name(self, index: int) -> str:
        """Returns where record `index` comes from."""
        number = int(self._owners(np.asarray(index)))
        return record_name(self._sources[number], int(index - self._starts[number]))

    def describe(self) -> dict:
        """Returns the facts of each set and their sums."""
        facts = [source.describe() for source in self._sources]
        return {
            "source": "joined",
            "path": ", ".join(str(fact.get("path")) for fact in facts),
            "images": len(self),
            "identities": self.num_classes,
            "joined": facts,
            "notes": [note for fact in facts for note in fact.get("notes", [])],
        }

    def _owners(self, indices: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, indices, side="right") - 1


def open_source(
    name: str,
    paths: Sequence[str | Path] = ("",),
    options: Mapping[str, Any] | None = None,
    *,
    subset: Subset | None = None,
    drop_small_identities: int = 0,
) -> Source:
    """Opens training images; what is odd about them is logged.

    Args:
        name: of the kind of source, a key of `tables.SOURCES`.
        paths: of the sets; the identities of each are taken to be different people.
        options: of that kind; those left out have their defaults.
        subset: which random share of the sets together is taken; None: all.
        drop_small_identities: images that an identity needs to stay, of those that the
            subset has; 0: all stay.

    Raises:
        ConfigError: where the name is unknown or a path missing.
        DataError: where the data does not hold what it should.
    """
    entry: SourceEntry = tables.SOURCES[name]
    options = {key: option.default for key, option in entry.options.items()} | dict(
        options or {}
    )
    if entry.needs_path and not all(str(path) for path in paths):
        raise ConfigError(
            f"data.path: empty, but data.source={name} needs a path; set "
            "--config.data.path=PATH"
        )
    sources = [entry.open(Path(path).expanduser(), **options) for path in paths]
    for path, source in zip(paths, sources, strict=True):
        for note in source.describe().get("notes", []):
            _log.warning("%s: %s", path, note)
    source = sources[0] if len(sources) == 1 else JoinedSource(sources)
    if subset is not None and subset.share < 1:
        whole, source = source, random_subset(source, subset)
        _log.info(
            "data.subset=%g of the %s, seed %d: %d of %d images, %d of %d identities",
            *subset,
            len(source),
            len(whole),
            source.num_classes,
            source.num_classes + source.left_out_identities,
        )
    if drop_small_identities > 0:
        source = large_identities(source, drop_small_identities)
        _log.warning(
            "data.drop_small_identities=%d: left out %d identities with %d images",
            drop_small_identities,
            source.left_out_identities,
            source.left_out_images,
        )
    return source


def open_detected(path: Path) -> Source:
    """Opens what lies at a path, with the default options of its kind."""
    entry = tables.SOURCES[detect_source(path)]
    options = {key: option.default for key, option in entry.options.items()}
    return entry.open(path, **options)


DETECTED = SourceEntry(open_detected)


def detect_source(path: Path) -> str:
    """Returns the name of the kind of source that fits what lies at `path`.

    Raises:
        DataError: where nothing there looks like a set of images.
    """
    for name in tables.SOURCES:
        if tables.SOURCES[name].detects(path):
            return name
    raise DataError(
        f"{path}: neither a .rec file, an imported set nor a folder of images"
        + ("" if path.exists() else ": there is nothing")
    )
