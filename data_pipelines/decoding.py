"""Encoded bytes to a face crop, and what to do with bytes that are no such thing."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from qface_jax.data_pipelines.degrade import SIDE

_TENSORFLOW_DECODES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # JPEG, PNG


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG or PNG to a crop of 112 px.

    A picture of another size is resized so that its short side is 112, then cut in the
    middle.

    Args:
      encoded: string [].

    Returns:
      uint8 [112, 112, 3], RGB.
    """
    image = _pixels(encoded)
    size = tf.shape(image)[:2]
    fits = tf.reduce_all(size == SIDE)
    image = tf.cond(fits, lambda: image, lambda: _fitted(image))
    return tf.ensure_shape(image, [SIDE, SIDE, 3])


def _pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, and PNG, which the same kernel takes."""
    # TensorFlow's default transform is the fast one, more than a grey level off from
    # what OpenCV, Pillow and so all public training code decode.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _fitted(image: tf.Tensor) -> tf.Tensor:
    """Short side to 112, then the middle."""
    size = tf.shape(image)[:2]
    short = tf.reduce_min(size)
    new = tf.maximum((size * SIDE + short // 2) // short, SIDE)
    image = tf.image.resize(image, new, method="bilinear", antialias=True)
    top, left = (new[0] - SIDE) // 2, (new[1] - SIDE) // 2
    image = image[top : top + SIDE, left : left + SIDE]
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0) + 0.5, tf.uint8)


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
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
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
        _pixels(tf.constant(encoded))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def placeholder() -> bytes:
    """A small valid picture that stands in a batch which is never handed out."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
