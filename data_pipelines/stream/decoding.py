"""Encoded bytes to a face crop, and what to do with bytes that are no such thing."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from qface_jax.data_pipelines.degradation.drawn_steps import SIDE, rounded

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
