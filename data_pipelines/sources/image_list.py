"""Images without labels, one by one: of a folder, a file of pairs, any training set.

Other than a training set, such a list may hold files that are no images: what is wrong
with one is said of it and stops nothing.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.sets.pair_pickle import load_pair_pickle
from qface_jax.data_pipelines.sources.image_folder import NameTable
from qface_jax.data_pipelines.sources.image_status import (
    NOT_AN_IMAGE,
    OK,
    UNREADABLE,
    Status,
)
from qface_jax.data_pipelines.sources.source import detect_source, record_name
from qface_jax.data_pipelines.stream import decoding, picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError
from qface_jax.tables import SOURCES

_DEEPEST = 50  # folders within folders
_THREADS = 16  # that read or decode, at most


class ImageList:
    """Encoded images with random access; thread-safe."""

    def __init__(
        self,
        path: Path,
        count: int,
        *,
        name: Callable[[int], str],
        read: Callable[[int], bytes],
        file: Callable[[int], str | bytes | Path] | None = None,
    ):
        """Takes what tells about and reads image i, 0 .. count - 1.

        Args:
          path: where the images lie.
          count: how many there are.
          name: of an image: its path within `path`, or its place.
          read: its bytes; raises OSError or DataError where there are none.
          file: the file that it lies in; None: `path`.
        """
        self.path = path
        self._count, self._name, self._read = count, name, read
        self._file = file or (lambda row: path)

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """Returns the path of an image within that of the list, or its place."""
        return self._name(int(index))

    def read(self, index: int) -> bytes:
        """Returns an image as it is stored.

        Raises:
          OSError: its file cannot be read.
          DataError: its record cannot be read.
        """
        return self._read(int(index))

    def stamps(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns size and time of modification, ns, of the files of some images.

        Returns:
          int64 [k, 2]; -1 of a file that is not there.
        """
        stamps = np.full((len(rows), 2), -1, np.int64)
        for place, row in enumerate(rows):
            # No file can have such a name, or it is not there.
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(self._file(int(row)))
                stamps[place] = found.st_size, found.st_mtime_ns
        return stamps

    def fetch(self, indices: Sequence[int] | np.ndarray) -> list[bytes]:
        """Returns images as they are stored; raises as `read` for the first bad one."""
        return [self.read(index) for index in indices]


def open_images(path: str | Path) -> ImageList:
    """Opens a list of images; none of them is read yet, but those of a `.bin` file.

    Args:
      path: a folder with images at any depth (sorted by path; hidden ones left out), an
        image, a `.txt` file with the path of an image on each line, relative ones from
        its own folder, a `.bin` file of pairs, or a training set: a `.rec` file, the
        folder of one, or an imported set.

    Raises:
      DataError: there is nothing, or no image.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.suffix == ".bin":
        encoded, _ = load_pair_pickle(path)
        return ImageList(
            path,
            len(encoded),
            name=lambda row: f"image {row}",
            read=encoded.__getitem__,
        )
    if path.is_file() and path.suffix == ".txt":
        lines = os.fsdecode(path.read_bytes()).splitlines()
        return list_paths([line for line in lines if line.strip()], folder=path.parent)
    if path.is_file() and path.suffix != ".rec":
        return list_paths([path.name], folder=path.parent)
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give a folder of images, an image, a "
            ".txt list of images, a .bin file of pairs or a training set"
        )
    kind = detect_source(path)
    return _files(path) if kind == "folder" else _records(path, kind)


def list_paths(paths: Sequence[str | Path], *, folder: str | Path = ".") -> ImageList:
    """Returns the images at some paths, in their order; none of them is read yet.

    Args:
      paths: of the files.
      folder: where relative paths begin.

    Raises:
      DataError: there is none.
    """
    names = [str(path) for path in paths]
    if not names:
        raise DataError(f"{folder}: got 0 paths of images, expected one at least")
    folder = Path(folder)

    def file(row: int) -> Path:
        return folder / Path(names[row]).expanduser()

    return ImageList(
        folder,
        len(names),
        name=names.__getitem__,
        read=lambda row: picture.read_file(file(row)),
        file=file,
    )


def evenly_spread(total: int, count: int) -> np.ndarray:
    """Returns at most `count` of the rows 0 .. total - 1, evenly spread, int64 [n]."""
    rows = np.linspace(0, total - 1, min(count, total))
    return rows.round().astype(np.int64)


def decoded_batches(
    images: ImageList,
    *,
    batch_size: int,
    resize: str,
    rows: Sequence[int] | np.ndarray | None = None,
    workers: int = 0,
) -> Iterator[tuple[np.ndarray, list[Status]]]:
    """Yields images in order as the networks see them, and what became of each.

    The next batch is read and decoded while this one is used; no more than two are held
    at a time.

    Args:
      images: what to read.
      batch_size: images at a time, at least 1.
      resize: of images that are not 112 px, as of `decoding.fit`.
      rows: which images, in which order; None: all.
      workers: threads that read; 0: as many as there are cores, at most 16.

    Yields:
      uint8 [k, 112, 112, 3] RGB, k = `batch_size` but for the last, and k statuses; an
      image that is not OK is black.
    """
    rows = range(len(images)) if rows is None else rows
    threads = workers or min(_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as ahead:
        load = functools.partial(_load, images, _decoder(resize), readers)
        pending: Future | None = None
        for first in range(0, len(rows) + batch_size, batch_size):
            # Handed in before the batch in hand is given out, hence loaded meanwhile.
            batch = [int(row) for row in rows[first : first + batch_size]]
            ready, pending = pending, ahead.submit(load, batch) if batch else None
            if ready is not None:
                yield ready.result()


@functools.cache  # compiled once, for all lists
def _decoder(resize: str) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Encoded [k] -> the crops [k, 112, 112, 3], heights and widths before [k, 2]."""

    def one(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decoding.pixels(encoded)
        return decoding.fit(image, resize), tf.shape(image)[:2]

    crop = tf.TensorSpec([SIDE, SIDE, 3], tf.uint8)
    size = tf.TensorSpec([2], tf.int32)

    # One call for a batch: one for each picture costs more than decoding it.
    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    def decode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.map_fn(
            one, encoded, fn_output_signature=(crop, size), parallel_iterations=_THREADS
        )

    return decode


def _load(
    images: ImageList,
    decode: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    readers: ThreadPoolExecutor,
    rows: list[int],
) -> tuple[np.ndarray, list[Status]]:
    """Reads and decodes a batch."""
    read = list(readers.map(functools.partial(_read, images), rows))
    statuses = [status for _, status in read]
    batch = np.zeros((len(rows), SIDE, SIDE, 3), np.uint8)
    good = [place for place, status in enumerate(statuses) if status.status == OK]
    together = tf.constant([read[place][0] for place in good], tf.string)
    # One by one only where one is not what it seems.
    try:
        decoded = [(good, decode(together))]
    except tf.errors.InvalidArgumentError:
        decoded = []
        for place in good:
            try:
                decoded.append(([place], _decoded_alone(decode, read[place][0])))
            except PictureError as error:
                name = statuses[place].name
                statuses[place] = Status(name, NOT_AN_IMAGE, str(error))
    for places, (pictures, sizes) in decoded:
        batch[places] = pictures.numpy()
        for place, (height, width) in zip(places, sizes.numpy().tolist(), strict=True):
            statuses[place] = statuses[place]._replace(width=width, height=height)
    return batch, statuses


def _read(images: ImageList, row: int) -> tuple[bytes, Status]:
    """Reads an image, as TensorFlow decodes it."""
    name = images.name(row)
    try:
        return picture.read(images.read(row)).encoded, Status(name, OK)
    except PictureError as error:
        return b"", Status(name, NOT_AN_IMAGE, str(error))
    except (OSError, DataError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return b"", Status(name, UNREADABLE, reason)


def _decoded_alone(
    decode: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]], encoded: bytes
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one image, with Pillow's help where TensorFlow fails."""
    try:
        return decode(tf.constant([encoded]))
    except tf.errors.InvalidArgumentError:
        return decode(tf.constant([decoding.repaired(picture.read(encoded))]))


def _records(path: Path, kind: str) -> ImageList:
    source = SOURCES[kind].open(path)
    return ImageList(
        path,
        len(source),
        name=lambda row: record_name(source, row),
        read=lambda row: source.fetch(np.asarray([row]))[0][0],
    )


def picture_files(folder: Path) -> list[bytes]:
    """Returns the paths within a folder of what ends like a picture, sorted.

    Hidden files and folders are left out, links are followed, to no folder twice.

    Raises:
      DataError: a folder cannot be listed, or folders lie too deep within each other.
    """
    root = os.fsencode(folder)
    names_found: list[bytes] = []
    seen: set[bytes] = set()  # a link may lead back to where the walk has been
    for place, folders, names in os.walk(
        root, onerror=_refuse_unlisted, followlinks=True
    ):
        real = os.path.realpath(place)
        known = real in seen
        seen.add(real)
        folders[:] = [n for n in folders if not known and not n.startswith(b".")]
        if known:
            continue
        inside = os.path.relpath(place, root)
        if inside.count(b"/") >= _DEEPEST:
            raise DataError(
                f"{folder}: holds folders within folders, more than {_DEEPEST} deep; "
                "expected images in fewer"
            )
        for name in names:
            if not name.startswith(b".") and picture.has_image_suffix(name):
                names_found.append(os.path.normpath(os.path.join(inside, name)))
    return sorted(names_found)


def _files(folder: Path) -> ImageList:
    """The images of a folder, without a Python object for each."""
    files, root = NameTable(), os.fsencode(folder)
    for name in picture_files(folder):
        files.append(name)
    if not len(files):
        raise DataError(
            f"{folder}: no image: expected files with one of the endings "
            f"{', '.join(picture.IMAGE_SUFFIXES)}, at any depth"
        )

    def file(row: int) -> bytes:
        return os.path.join(root, files[row])

    return ImageList(
        folder,
        len(files),
        name=lambda row: os.fsdecode(files[row]),
        read=lambda row: picture.read_file(file(row)),
        file=file,
    )


def _refuse_unlisted(error: OSError) -> None:
    raise DataError(
        f"{os.fsdecode(error.filename)}: cannot be listed: {error.strerror}; change "
        "its rights"
    )
