"""Features of a list of images as one file, .npz or .parquet, for other programs too.

It has the fields of a feature store (`qface_jax.inference.feature_store`), each an
array with an entry per image: `row`, `stamp`, `unusable`, `plain` and, with flip,
`mirrored` (raw features of the image and of its mirror image, float32 [n, d]; the
feature is their sum) and `score_<name>`; besides, `name`, `status` and `message` of
each image, and `manifest`: everything that the features depend on, as JSON.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sources.image_status import Status
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import npz_file
from qface_jax.evals.embedded import Embedded
from qface_jax.inference.embeddings import Embeddings
from qface_jax.storage.atomic_file import replacing

ENDINGS = (".npz", ".parquet")
_BLOCK = 4096  # images in memory at a time while a file is written
_SCORE = "score_"
_SAME_MODEL = 1e-3  # distance of its features of noise, as a share of their norm
_TEXTS = ("name", "status", "message")
_NEEDED = ("unusable", "plain", *_TEXTS, "manifest")


class Content(NamedTuple):
    """What is written.

    Attributes:
        manifest: Everything that the features depend on, fit for JSON.
        statuses: What became of each image, [n].
        stamps: Of the files of the images, int64 [n, 2].
        unusable: Images without a feature, bool [n].
        read: Numbers of images [k] -> their features.
    """

    manifest: Mapping[str, Any]
    statuses: Sequence[Status]
    stamps: np.ndarray
    unusable: np.ndarray
    read: Callable[[np.ndarray], Embedded]


def check_name(path: Path) -> None:
    """Raises ConfigError where a file of that name cannot be written or read."""
    if path.suffix not in ENDINGS:
        raise ConfigError(
            f"{path}: must end in {' or '.join(ENDINGS)}, which says what is written"
        )
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give a file")
    if path.suffix == ".parquet":
        _pyarrow(path)


def write(path: Path, content: Content) -> None:
    """Writes a file aside, then renames it.

    Args:
        path: File to write or replace, with one of ENDINGS.
        content: What is written.
    """
    with replacing(path) as aside:
        (_write_parquet if path.suffix == ".parquet" else _write_npz)(aside, content)


def read_embeddings(path: str | Path) -> Embeddings:
    """Returns the features of a file, those of images and mirror images added.

    Args:
        path: OUT of `qface embed`.

    Raises:
        ConfigError: Its name has another ending, or a package is missing.
        DataError: It is no such file, or damaged.
    """
    path = Path(path).expanduser()
    check_name(path)
    fields = _fields_of(path, None)
    _check_arrays(path, fields)
    features = fields["plain"]
    if "mirrored" in fields:
        features += fields["mirrored"]
    unusable = fields["unusable"]
    features[unusable] = 0
    scores = {
        name.removeprefix(_SCORE): np.where(unusable, -math.inf, values)
        for name, values in fields.items()
        if name.startswith(_SCORE)
    }
    return Embeddings(
        features, scores, *(np.asarray(fields[name]).tolist() for name in _TEXTS)
    )


def manifest(path: Path) -> dict[str, Any]:
    """Returns what the features of a file depend on; raises as `read_embeddings`."""
    check_name(path)
    return _manifest(path, _fields_of(path, "manifest"))


def _manifest(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = json.loads(str(fields["manifest"]))
        if not isinstance(content, dict) or not isinstance(content.get("flip"), bool):
            raise ValueError("it does not say whether mirror images are in it")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: its manifest cannot be read ({error}); embed the images again"
        ) from error
    return content


def same_model(manifest: Mapping[str, Any], of_noise: np.ndarray) -> bool:
    """Whether a model is the one that a manifest tells of.

    Args:
        manifest: Of a file; its `of_noise` is told.
        of_noise: Raw feature of the first image of `Embedder.of_noise`, [d]. Other
            sizes of a batch make differences in its last digits.
    """
    try:
        of_file = np.asarray(manifest.get("of_noise", ()), np.float64)
    except (ValueError, TypeError, OverflowError):
        return False
    if of_file.shape != of_noise.shape:
        return False
    apart = np.linalg.norm(of_file - of_noise)
    return bool(apart <= _SAME_MODEL * np.linalg.norm(of_noise))


def _blocks(content: Content) -> Iterator[tuple[slice, Embedded]]:
    count = len(content.statuses)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        yield rows, content.read(np.arange(rows.start, rows.stop))


def _in_lines(content: Content) -> dict[str, list[str]]:
    """The text fields of all images."""
    return {
        field: [getattr(status, field) for status in content.statuses]
        for field in _TEXTS
    }


def _write_npz(path: Path, content: Content) -> None:
    count = len(content.statuses)
    first = content.read(np.arange(1))
    pick: dict[str, Callable[[Embedded], Any]] = {"plain": lambda e: e.plain}
    if first.mirrored is not None:
        pick["mirrored"] = lambda e: e.mirrored
    for name in first.scores:
        pick[f"{_SCORE}{name}"] = lambda e, name=name: e.scores[name]
    small = {
        "manifest": np.array(json.dumps(content.manifest)),
        "row": np.arange(count),
        "stamp": content.stamps,
        "unusable": content.unusable,
        **{name: np.array(lines) for name, lines in _in_lines(content).items()},
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in small.items():
            # Names of files repeat; features do not shrink.
            archive.compression = zipfile.ZIP_DEFLATED
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
        archive.compression = zipfile.ZIP_STORED
        for name, of in pick.items():
            example = of(first)
            header = {
                "descr": np.lib.format.dtype_to_descr(example.dtype),
                "fortran_order": False,
                "shape": (count, *example.shape[1:]),
            }
            # A block at a time: all features together may not fit into memory.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _, embedded in _blocks(content):
                    file.write(np.ascontiguousarray(of(embedded)).tobytes())


def _write_parquet(path: Path, content: Content) -> None:
    pa, pq = _pyarrow(path)
    # Names of files need not be text; Parquet takes nothing else.
    lines = {
        name: [line.encode("utf-8", "backslashreplace").decode() for line in values]
        for name, values in _in_lines(content).items()
    }
    writer = None
    try:
        for rows, embedded in _blocks(content):
            columns = {
                "row": pa.array(np.arange(rows.start, rows.stop)),
                **{name: pa.array(values[rows]) for name, values in lines.items()},
                "unusable": pa.array(content.unusable[rows]),
                "stamp": _vectors(pa, content.stamps[rows]),
                "plain": _vectors(pa, embedded.plain),
            }
            if embedded.mirrored is not None:
                columns["mirrored"] = _vectors(pa, embedded.mirrored)
            for name, values in embedded.scores.items():
                columns[f"{_SCORE}{name}"] = pa.array(values)
            table = pa.table(columns).replace_schema_metadata(
                {"manifest": json.dumps(content.manifest)}
            )
            writer = writer or pq.ParquetWriter(
                path, table.schema, write_page_checksum=True
            )
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _vectors(pa: Any, values: np.ndarray) -> Any:
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _fields_of(path: Path, only: str | None) -> dict[str, Any]:
    """Returns the fields of a file, or one of them."""
    try:
        fields = (_read_parquet if path.suffix == ".parquet" else _read_npz)(path, only)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read as a file of `qface embed` "
            f"({type(error).__name__}: {error}); embed the images again"
        ) from error
    missing = [name for name in (only and [only]) or _NEEDED if name not in fields]
    if missing:
        raise DataError(
            f"{path}: is no file of `qface embed`: it has no {', '.join(missing)}; "
            "embed the images with it"
        )
    return fields


def _check_arrays(path: Path, fields: Mapping[str, Any]) -> None:
    """Raises DataError where an array is not of its type, or not of all images."""
    count = len(fields["unusable"]) if np.ndim(fields["unusable"]) == 1 else -1
    width = fields["plain"].shape[-1] if np.ndim(fields["plain"]) == 2 else -1
    kinds = {"unusable": ("b", (count,)), **dict.fromkeys(_TEXTS, ("UO", (count,)))}
    for name in ("plain", "mirrored"):
        kinds[name] = ("f", (count, width))
    for name, values in fields.items():
        kind, shape = kinds.get(name, ("f", (count,)))
        if name not in kinds and not name.startswith(_SCORE):
            continue
        values = np.asarray(values)
        if values.dtype.kind not in kind or values.shape != shape:
            raise DataError(
                f"{path}: {name} is {values.dtype}{list(values.shape)}, which is not "
                f"what `qface embed` writes of {max(count, 0):,} images; embed them "
                "again"
            )


def _read_npz(path: Path, only: str | None) -> dict[str, Any]:
    return npz_file.read(path, None if only is None else {only})


def _read_parquet(path: Path, only: str | None) -> dict[str, Any]:
    pa, pq = _pyarrow(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            fields: dict[str, Any] = {
                key.decode(): value.decode()
                for key, value in metadata.items()
                if key == b"manifest"
            }
            if only is not None:
                return fields
            table = file.read()
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            fields[name] = np.array(column.flatten()).reshape(-1, width)
        else:
            fields[name] = np.array(column.to_pylist())
    return fields


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            f"{path}: .parquet needs the package pyarrow: pip install "
            '"qface-jax[parquet]", or give a file that ends in .npz'
        ) from error
    return pyarrow, parquet
