"""Hue, and AdaFace's photometric step with it, against Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import hue, photometric
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs
from support.degrade_goldens import drawn
from support.degrade_recipes import run, settings


def by_pillow(picture, share):
    """What torchvision's adjust_hue does with a Pillow image."""
    bands = picture.convert("HSV").split()
    turned = (np.asarray(bands[0], np.int32) + int(share * 255)) % 256
    first = Image.fromarray(turned.astype(np.uint8))
    return Image.merge("HSV", (first, *bands[1:])).convert("RGB")


def all_colours(step):
    """Every step-th level of each colour, with both ends."""
    levels = sorted({*range(0, 256, step), 1, 127, 128, 254, 255})
    grid = np.stack(np.meshgrid(levels, levels, levels), -1)
    return grid.reshape(1, -1, 3).astype(np.uint8)


def turned(colours, share):
    planes = tf.constant(colours.reshape(-1, 3).T, tf.float32)
    got = tf.function(hue.turn)(planes, tf.constant(share, tf.float32))
    return got.numpy().T.reshape(colours.shape)


@pytest.mark.parametrize("share", [-0.5, -0.21, -0.003, 0.0, 0.004, 0.1, 0.37, 0.5])
def test_every_colour_is_that_of_pillow(share):
    colours = all_colours(5)
    expected = np.asarray(by_pillow(Image.fromarray(colours), share))
    np.testing.assert_array_equal(turned(colours, share), expected)


def test_a_third_of_the_circle_turns_red_green_and_grey_stays():
    pure = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    grey = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    np.testing.assert_array_equal(turned(pure, 1 / 3), np.roll(pure, 1, axis=-1))
    for share in (-0.4, 0.0, 0.25):
        np.testing.assert_array_equal(turned(grey, share), grey)


@pytest.mark.parametrize("order", range(6))
def test_jitter_with_hue_equals_pillow(order):
    image = drawn()[0]
    brightness, shift, saturation = 1.37, -0.08, 1.29
    draws = [brightness - 0.5, (shift / 0.2 + 1) / 2, saturation - 0.5]
    got = photometric.jitter(
        tf.constant(image),
        tf.constant([*draws, (order + 0.5) / 6], tf.float32),
        strength=0.5,
        hue_shift=0.2,
    )
    changes = (
        lambda picture: ImageEnhance.Brightness(picture).enhance(brightness),
        lambda picture: by_pillow(picture, shift),
        lambda picture: ImageEnhance.Color(picture).enhance(saturation),
    )
    expected = Image.fromarray(image)
    for which in photometric._ORDERS[order]:
        expected = changes[which](expected)
    off = np.abs(got.numpy().astype(int) - np.asarray(expected).astype(int))
    # A grey level in one step is a few in the next.
    assert (off > 8).mean() < 0.001
    assert (off > 0).mean() < 0.03


def test_the_recipe_changes_contrast_unless_hue_is_asked_for():
    image = tf.constant(drawn()[0])
    alone = {
        "flip_probability": 0.0,
        "crop_probability": 0.0,
        "rescale_probability": 0.0,
        "photometric_probability": 1.0,
        "photometric_strength": 0.0,
    }
    still = run("adaface", image, settings("adaface", **alone), 5)
    assert (still == image.numpy()).all()
    alone |= {"photometric_third": "hue"}
    moved = run("adaface", image, settings("adaface", **alone), 20)
    assert len({picture.tobytes() for picture in moved}) > 10
    # Hue keeps the largest of red, green and blue.
    np.testing.assert_array_equal(
        moved.max(-1), np.broadcast_to(image.numpy().max(-1), moved.shape[:-1])
    )


def test_keys():
    group = base.get_config().degrade.adaface
    assert group.photometric_third == "contrast"
    for word in ("third=saturation", "hue_shift=0.6"):
        with pytest.raises(ConfigError, match="photometric_"):
            configs.load("demo", [f"--config.degrade.adaface.photometric_{word}"])
