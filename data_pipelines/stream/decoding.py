"""Encoded bytes to a face crop, and what to do with bytes that are no such thing."""

import io
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.degradation.steps import rounded
from qface_jax.data_pipelines.sources.skipping_source import InPlace, SkippingSource
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError

Fetch = Callable[[np.ndarray], tuple[list[bytes], np.ndarray]]
_MEND = "Fetch the data again, or leave the record out"


def decode(encoded: tf.Tensor, resize: str = "crop") -> tf.Tensor:
    """Decodes JPEG or PNG to a crop of 112 px.

    Args:
      encoded: string [].
      resize: what happens to a picture of another size, as of `fit`.

    Returns:
      uint8 [112, 112, 3], RGB.
    """
    image = _decoded(encoded)
    # Whatever a picture may lack stands behind one condition.
    usual = tf.reduce_all(tf.shape(image) == [SIDE, SIDE, 3]) & ~_ends_flat(image)
    fitted = tf.cond(usual, lambda: image, lambda: fit(_whole(image, encoded), resize))
    return tf.ensure_shape(fitted, [SIDE, SIDE, 3])


def pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, and PNG, which the same kernel takes, to uint8 [h, w, 3]."""
    return _whole(_decoded(encoded), encoded)


def _decoded(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow's default transform is the fast one, more than a grey level off from
    # what OpenCV, Pillow and so all public training code decode.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _ends_flat(image: tf.Tensor) -> tf.Tensor:
    """Whether the last corner is of one colour, as where a JPEG's data ended early."""
    corner = image[-4:, -4:]
    return tf.reduce_all(corner == corner[-1:, -1:])


def _whole(image: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Returns the picture; fails if its data ends too early."""
    cut = tf.cond(
        _ends_flat(image),
        lambda: tf.numpy_function(_is_cut, [encoded], tf.bool, stateful=False),
        lambda: False,
    )
    whole = tf.raw_ops.Assert(condition=tf.logical_not(cut), data=["cut short"])
    with tf.control_dependencies([whole]):
        return tf.identity(image)


def _is_cut(encoded: bytes | np.ndarray) -> bool:
    # Outside a graph TensorFlow hands over an array of one object.
    return picture.is_cut(np.asarray(encoded, object).item())


def fit(image: tf.Tensor, resize: str = "crop") -> tf.Tensor:
    """Makes a picture 112 px wide and high; one that is so already stays as it is.

    Args:
      image: uint8 [h, w, 3].
      resize: crop (the short side becomes 112, bilinear, and the middle stays) or
        stretch (the whole picture, bicubic, whatever its proportions).

    Returns:
      uint8 [112, 112, 3].

    Raises:
      ValueError: `resize` is neither.
    """
    if resize not in _FITTED:
        raise ValueError(f"resize: got {resize!r}, must be one of {', '.join(_FITTED)}")
    fits = tf.reduce_all(tf.shape(image)[:2] == SIDE)
    image = tf.cond(fits, lambda: image, lambda: _FITTED[resize](image))
    return tf.ensure_shape(image, [SIDE, SIDE, 3])


def _cropped(image: tf.Tensor) -> tf.Tensor:
    """Short side to 112, then the middle."""
    size = tf.shape(image)[:2]
    short = tf.reduce_min(size)
    new = tf.maximum((size * SIDE + short // 2) // short, SIDE)
    image = tf.image.resize(image, new, method="bilinear", antialias=True)
    top, left = (new[0] - SIDE) // 2, (new[1] - SIDE) // 2
    return rounded(image[top : top + SIDE, left : left + SIDE])


def _stretched(image: tf.Tensor) -> tf.Tensor:
    """Both sides to 112, as Pillow: to whole grey levels after each of them."""
    for size in ([tf.shape(image)[0], SIDE], [SIDE, SIDE]):
        image = rounded(tf.image.resize(image, size, method="bicubic", antialias=True))
    return image


_FITTED = {"crop": _cropped, "stretch": _stretched}


def reads(encoded: bytes) -> bool:
    """Whether `decode` takes the bytes, which `picture.read` has returned."""
    try:
        pixels(tf.constant(encoded))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def repaired(plain: picture.Picture) -> bytes:
    """Returns as PNG what Pillow decodes and TensorFlow does not.

    Raises:
      PictureError: Pillow does not either.
    """
    return _png(picture.pixels(plain))


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class Records:
    """Fetches batches for tf.data, and keeps what went wrong out of TensorFlow.

    An exception that passes through TensorFlow comes out as pages of its own text. So
    a failure is kept here by step, the step gets placeholders, and `faces` raises
    the failure instead of handing that batch out.
    """

    def __init__(
        self,
        fetch: Fetch,
        name: Callable[[int], str],
        skipping: SkippingSource | InPlace | None = None,
        *,
        of_training: bool = False,
    ):
        """Keeps the functions.

        Args:
          fetch: indices [k] -> encoded images and int32 labels.
          name: index of a record -> where it comes from, for messages.
          skipping: whose `fetch` that is, and which is told of records that cannot be
            decoded, to put others in their place; None: they are errors.
          of_training: whether they are of a training set, of which data.skip_broken
            leaves broken ones out.
        """
        self.failures: dict[int, Exception] = {}
        self._fetch = fetch
        self._name = name
        self._skipping = skipping
        self._may_skip = of_training and skipping is None
        how = ": --config.data.skip_broken=True does so" if self._may_skip else ""
        self._mend = f"{_MEND}{how}"
        self._odd: set[int] = set()  # records that only Pillow can decode

    def load(self, step: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fetches a step's records: encoded [k] object, labels int32 [k]."""
        encoded = np.empty(len(indices), object)
        try:
            images, labels = self._fetched(indices)
            records = zip(self._read_for(indices), images, strict=True)
            for row, (index, image) in enumerate(records):
                encoded[row] = self._plain(int(index), image)
        except Exception as error:
            self.failures[int(step)] = error
            encoded[:] = picture.black()
            labels = np.zeros(len(indices), np.int32)
        return encoded, np.asarray(labels, np.int32)

    def _fetched(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        try:
            return self._fetch(indices)
        except DataError as error:
            if not self._may_skip:
                raise
            raise DataError(f"{error}. {self._mend}") from error

    def learn(self, indices: np.ndarray) -> bool:
        """Finds the records that TensorFlow could not decode, for another attempt.

        Args:
          indices: of the step in which decoding failed.

        Returns:
          Whether there are any: all of them are pictures to Pillow, or are left out.

        Raises:
          DataError: one of them is no picture at all.
        """
        images, _ = self._fetch(indices)
        any_odd = False
        for index, image in zip(self._read_for(indices), images, strict=True):
            if not reads(self._plain(int(index), image)):
                self._odd.add(int(index))
                self._repair(int(index), image)
                any_odd = True
        return any_odd

    def _read_for(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records that were read for others."""
        return indices if self._skipping is None else self._skipping.chosen(indices)

    def _repair(self, index: int, image: bytes) -> None:
        """Sees whether Pillow decodes a record; it is left out if it does not."""
        try:
            self._plain(index, image)
        except DataError as error:
            if self._skipping is None:
                raise
            self._odd.discard(index)
            self._skipping.leave_out(index, str(error.__cause__))

    def _plain(self, index: int, image: bytes) -> bytes:
        try:
            plain = picture.read(image)
            return repaired(plain) if index in self._odd else plain.encoded
        except PictureError as error:
            raise DataError(f"{self._name(index)}: {error}. {self._mend}") from error
