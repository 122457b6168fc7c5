"""Encoded bytes to a face crop, and what to do with bytes that are no such thing."""

import io
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.degradation.steps import rounded
from qface_jax.errors import DataError

Fetch = Callable[[np.ndarray], tuple[list[bytes], np.ndarray]]
_TENSORFLOW_DECODES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # JPEG, PNG


def decode(encoded: tf.Tensor, resize: str = "crop") -> tf.Tensor:
    """Decodes JPEG or PNG to a crop of 112 px.

    Args:
      encoded: string [].
      resize: what happens to a picture of another size, as of `fit`.

    Returns:
      uint8 [112, 112, 3], RGB.
    """
    return fit(pixels(encoded), resize)


def pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, and PNG, which the same kernel takes, to uint8 [h, w, 3]."""
    # TensorFlow's default transform is the fast one, more than a grey level off from
    # what OpenCV, Pillow and so all public training code decode.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


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
    """Both sides to 112."""
    return rounded(
        tf.image.resize(image, [SIDE, SIDE], method="bicubic", antialias=True)
    )


_FITTED = {"crop": _cropped, "stretch": _stretched}


def is_common(encoded: bytes) -> bool:
    """Whether the bytes begin like a format that TensorFlow decodes."""
    return encoded.startswith(_TENSORFLOW_DECODES)


def transcode(encoded: bytes) -> bytes | None:
    """Turns whatever Pillow reads into PNG, losing nothing; None where it reads none.

    For formats and codings that TensorFlow does not know: WebP, TIFF, JPEG with
    arithmetic coding. A damaged file stays refused: Pillow does not guess either.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            plain = image.convert("RGB")
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
    ):
        return None
    buffer = io.BytesIO()
    plain.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def reads(encoded: bytes) -> bool:
    """Whether `decode` takes the bytes: a whole JPEG or PNG."""
    # The JPEG kernel takes GIF and WebP too, and makes films of them, [k, h, w, 3].
    if not is_common(encoded):
        return False
    try:
        pixels(tf.constant(encoded))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def placeholder() -> bytes:
    """A small valid picture that stands in a batch which is never handed out."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Records:
    """Fetches batches for tf.data, and keeps what went wrong out of TensorFlow.

    An exception that passes through TensorFlow comes out as pages of its own text. So
    a failure is kept here by step, the step gets placeholders, and `faces` raises
    the failure instead of handing that batch out.
    """

    def __init__(self, fetch: Fetch, name: Callable[[int], str]):
        """Keeps the two functions.

        Args:
          fetch: indices [k] -> encoded images and int32 labels.
          name: index of a record -> where it comes from, for messages.
        """
        self.failures: dict[int, Exception] = {}
        self._fetch = fetch
        self._name = name
        self._odd: set[int] = set()  # records that only Pillow can decode

    def load(self, step: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fetches a step's records: encoded [k] object, labels int32 [k]."""
        encoded = np.empty(len(indices), object)
        try:
            images, labels = self._fetch(indices)
            for row, (index, image) in enumerate(zip(indices, images, strict=True)):
                encoded[row] = self._plain(int(index), image)
        except Exception as error:
            self.failures[int(step)] = error
            encoded[:] = placeholder()
            labels = np.zeros(len(indices), np.int32)
        return encoded, np.asarray(labels, np.int32)

    def learn(self, indices: np.ndarray) -> bool:
        """Finds the records that TensorFlow could not decode, for another attempt.

        Args:
          indices: of the step in which decoding failed.

        Returns:
          Whether there are any: all of them are pictures to Pillow.

        Raises:
          DataError: one of them is no picture at all.
        """
        images, _ = self._fetch(indices)
        any_odd = False
        for index, image in zip(indices, images, strict=True):
            if not reads(self._plain(int(index), image)):
                if transcode(image) is None:
                    raise self._no_picture(int(index), image)
                self._odd.add(int(index))
                any_odd = True
        return any_odd

    def _plain(self, index: int, image: bytes) -> bytes:
        if index not in self._odd and is_common(image):
            return image
        plain = transcode(image)
        if plain is None:
            raise self._no_picture(index, image)
        return plain

    def _no_picture(self, index: int, image: bytes) -> DataError:
        return DataError(
            f"{self._name(index)}: not a picture, or a damaged one: {len(image)} bytes "
            f"that begin with {image[:8]!r}; neither TensorFlow nor Pillow decodes it. "
            "Fetch the data again, or leave the record out"
        )
