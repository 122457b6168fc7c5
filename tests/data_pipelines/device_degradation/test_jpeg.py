"""JPEG on the device: the pixels of libjpeg, as TensorFlow and Pillow call it."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax.data_pipelines.degradation import resample
from qface_jax.data_pipelines.device_degradation import jpeg
from support.degrade_goldens import drawn

SIDES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 28, 31, 33, 56, 111, 112)
QUALITIES = (1, 25, 49, 50, 75, 96, 100)
through = jax.jit(jpeg.through)


def face(side):
    small = resample.resize(drawn()[0], side, side, "bicubic", antialias=True)
    return np.clip(np.round(small), 0, 255).astype(np.uint8)


def noise(side):
    return np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)


def on_device(pictures, quality, size=112):
    """Pictures of several sides in one batch, each with its quality."""
    sides = [len(picture) for picture in pictures]
    padded = [
        np.pad(x, [(0, size - side), (0, size - side), (0, 0)], mode="edge")
        for x, side in zip(pictures, sides, strict=True)
    ]
    planes = np.moveaxis(np.stack(padded), 3, 1).astype(np.float32)
    out = through(planes, jnp.array(sides), jnp.array(quality))
    out = np.moveaxis(np.asarray(out), 1, 3).astype(np.uint8)
    return [x[:side, :side] for x, side in zip(out, sides, strict=True)]


def tensorflow(picture, quality):
    packed = tf.raw_ops.EncodeJpegVariableQuality(images=picture, quality=quality)
    return tf.io.decode_jpeg(packed, dct_method="INTEGER_ACCURATE").numpy()


def pillow(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("library", [tensorflow, pillow])
@pytest.mark.parametrize("make", [face, noise])
def test_every_pixel_is_that_of_libjpeg(make, library):
    cases = [(make(side), quality) for side in SIDES for quality in QUALITIES]
    pictures, qualities = zip(*cases, strict=True)
    for got, (picture, quality) in zip(
        on_device(pictures, qualities), cases, strict=True
    ):
        np.testing.assert_array_equal(
            got, library(picture, quality), f"{len(picture)} px, quality {quality}"
        )


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white(level):
    pictures = [np.full((side, side, 3), level, np.uint8) for side in (1, 20, 112)]
    qualities = (1, 60, 100)
    made = on_device(pictures, qualities)
    for got, picture, quality in zip(made, pictures, qualities, strict=True):
        np.testing.assert_array_equal(got, tensorflow(picture, quality))


def test_what_lies_beyond_a_picture_does_not_depend_on_the_array():
    got, same = on_device([face(13)], [40], 16), on_device([face(13)], [40], 64)
    np.testing.assert_array_equal(got, same)


def test_an_array_of_half_a_block_is_refused():
    assert [jpeg.canvas(side) for side in (1, 16, 17, 112)] == [16, 16, 32, 112]
    with pytest.raises(ValueError, match="got 24 x 24 px, must be square"):
        jpeg.through(jnp.zeros((1, 3, 24, 24)), jnp.array([24]), jnp.array([75]))
