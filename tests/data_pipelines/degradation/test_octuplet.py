"""The recipe of two views: one set of draws for both, the published degradation."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import photometric, steps
from qface_jax.tables import RECIPES
from support.degrade_goldens import assert_within_one_grey_level, drawn, photographs

SIDES = (7, 14, 28)


@pytest.fixture(scope="module")
def image():
    return tf.constant(drawn()[0])


def settings(**changes):
    """The recipe with nothing but its degradation, and what is changed."""
    params = base.get_config().degrade.octuplet
    params.update({"flip_probability": 0.0, "brightness": 0.0, "saturation": 0.0})
    params.update(changes)
    return params


def runner(params):
    """(image, seed [2]) -> both views, compiled once."""
    call = tf.function(
        lambda image, seed: RECIPES["octuplet"].draw(image, seed, params)
    )
    return lambda image, seed: call(image, tf.constant(seed, tf.int64)).numpy()


def views(image, params, count, *, seed=9):
    """Degraded and other views of so many draws, each [count, 112, 112, 3]."""
    call = runner(params)
    found = np.stack([call(image, [seed, place]) for place in range(count)])
    assert found.shape == (count, 2, 112, 112, 3)
    assert found.dtype == np.uint8
    return found[:, 0], found[:, 1]


@pytest.mark.parametrize("side", SIDES)
def test_photographs_equal_the_published_code(side):
    call = runner(settings(sides=(side,)))
    for place, (picture, expected) in enumerate(zip(*photographs(side), strict=True)):
        low, high = call(tf.constant(picture), [3, place])
        np.testing.assert_array_equal(high, picture)
        assert_within_one_grey_level(low, expected)


@pytest.mark.parametrize("side", SIDES)
def test_a_drawn_face_equals_the_published_code(image, side):
    low, high = views(image, settings(sides=(side,)), 1)
    np.testing.assert_array_equal(high[0], image)
    assert_within_one_grey_level(low[0], drawn()[1][side])


def test_the_degraded_view_is_that_of_the_other_view(image):
    """So flip, brightness and saturation are shared, and the side alone differs."""
    params = base.get_config().degrade.octuplet
    low, high = views(image, params, 60)
    sides = []
    for degraded, other in zip(low, high, strict=True):
        possible = [steps.down_up(tf.constant(other), side=side, antialias=True)
                    for side in SIDES]  # fmt: skip
        (found,) = [side for side, one in zip(SIDES, possible, strict=True)
                    if np.array_equal(one, degraded)]  # fmt: skip
        sides.append(found)
    assert min(sides.count(side) for side in SIDES) > 8
    assert len({other.tobytes() for other in high}) == 60
    # Each from draws of its own: flip, brightness, saturation and side.
    level, colour = high.mean(axis=(1, 2, 3)), np.ptp(high, axis=3).mean(axis=(1, 2))
    halves = [half.mean(axis=(1, 2, 3)) for half in np.split(high, 2, axis=2)]
    flipped = halves[0] > halves[1]
    assert 15 < flipped.sum() < 45
    together = np.corrcoef([flipped, level, colour / level, sides])
    assert np.abs(together - np.eye(4)).max() < 0.5


def test_the_other_view_is_the_picture_changed(image):
    """Mirrored or not, as often as asked; each by a brightness and saturation."""
    _, high = views(image, settings(flip_probability=0.25), 200)
    mirrored = (high == image.numpy()[:, ::-1]).all(axis=(1, 2, 3))
    plain = (high == image.numpy()).all(axis=(1, 2, 3))
    assert (mirrored | plain).all()
    assert abs(mirrored.mean() - 0.25) < 0.1
    _, bright = views(image, settings(brightness=0.2), 60)
    factors = bright.mean(axis=(1, 2, 3)) / image.numpy().mean()
    assert 0.79 < factors.min() < 0.85
    assert 1.13 < factors.max() < 1.21
    _, coloured = views(image, settings(saturation=0.2), 60)
    means = coloured.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, image.numpy().mean(), 0.02)
    colour = np.ptp(coloured, axis=3).mean(axis=(1, 2)) / np.ptp(image, axis=2).mean()
    assert 0.78 < colour.min() < 0.86
    assert 1.12 < colour.max() < 1.22


def test_draws_follow_from_the_seed_alone(image):
    call = runner(base.get_config().degrade.octuplet)
    pictures = {(seed, place): call(image, [seed, place]).tobytes()
                for seed in (1, 2) for place in range(4)}  # fmt: skip
    assert len(set(pictures.values())) == 8
    for (seed, place), found in reversed(pictures.items()):
        assert call(image, [seed, place]).tobytes() == found
    alone = RECIPES["octuplet"].draw(
        image, tf.constant([2, 3], tf.int64), base.get_config().degrade.octuplet
    )
    assert alone.numpy().tobytes() == pictures[2, 3]


def test_through_jpeg_and_without_anti_aliasing(image):
    plain, high = views(image, settings(sides=(14,)), 2)
    packed, _ = views(image, settings(sides=(14,), jpeg_probability=1.0), 2)
    rough, _ = views(image, settings(sides=(14,), antialias=False), 2)
    np.testing.assert_array_equal(plain[0], plain[1])
    assert 0.5 < np.abs(packed.astype(int) - plain.astype(int)).mean() < 12
    expected = steps.down_up(tf.constant(high[0]), side=14, antialias=False)
    np.testing.assert_array_equal(rough[0], expected)


def changed(image, brightness, saturation, strengths=(0.5, 0.5)):
    """The picture with the two factors, each within 1 - strength .. 1 + strength."""
    draws = [(factor - 1 + strength) / (2 * strength) for factor, strength in
             zip((brightness, saturation), strengths, strict=True)]  # fmt: skip
    return photometric.brighten_and_saturate(
        tf.constant(image), tf.constant(draws, tf.float32), strengths=strengths
    ).numpy()


@pytest.mark.parametrize("factors", [(1.37, 0.61), (0.55, 1.45), (1.5, 1.5)])
def test_brightness_then_saturation_equal_pillow(image, factors):
    picture = Image.fromarray(image.numpy())
    picture = ImageEnhance.Brightness(picture).enhance(factors[0])
    expected = ImageEnhance.Color(picture).enhance(factors[1])
    off = np.abs(changed(image.numpy(), *factors).astype(int) - np.asarray(expected))
    assert (off > 1).mean() < 0.001
    assert (off > 0).mean() < 0.02


def test_what_is_too_bright_is_cut_off():
    """Nothing wraps around, at either end."""
    levels = np.arange(256, dtype=np.uint8)
    grey = np.repeat(levels, 3).reshape(16, 16, 3)
    bright = changed(grey, 1.5, 1.0)
    np.testing.assert_array_equal(
        bright, np.minimum(np.floor(grey * np.float32(1.5)), 255)
    )
    loud = np.zeros((2, 2, 3), np.uint8)
    loud[..., 0] = 250
    got = changed(loud, 1.0, 1.5).astype(int)
    assert (got[..., 0] == 255).all()
    assert (got[..., 1:] == 0).all()


def test_strength_0_leaves_the_picture_alone_and_1_reaches_black(image):
    draws = tf.constant([0.3, 0.8])
    call = photometric.brighten_and_saturate
    same = call(image, draws, strengths=(0.0, 0.0))
    np.testing.assert_array_equal(same, image)
    assert not call(image, tf.zeros(2), strengths=(1.0, 0.0)).numpy().any()
    grey = call(image, tf.zeros(2), strengths=(0.0, 1.0)).numpy()
    # Factors stay at least 0 where the strength is above 1.
    np.testing.assert_array_equal(
        call(image, tf.constant([0.25, 0.0]), strengths=(0.0, 1.0)), grey
    )
    assert not call(image, tf.zeros(2), strengths=(3.0, 0.0)).numpy().any()
    assert np.ptp(grey, axis=2).max() <= 1
