"""The recipes: published goldens, Pillow, probabilities, stateless draws."""

import numpy as np
import pytest
import tensorflow as tf
from ml_collections import ConfigDict
from PIL import Image, ImageEnhance

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import photometric, steps
from qface_jax.tables import RECIPES
from support.degrade_goldens import (
    RESOLUTIONS,
    assert_within_one_grey_level,
    drawn,
    photographs,
)
from support.degrade_recipes import run, settings

SINGLE = [name for name in RECIPES if RECIPES[name].views == 1]


@pytest.fixture(scope="module")
def image():
    return tf.constant(drawn()[0])


@pytest.mark.parametrize("side", RESOLUTIONS)
def test_photographs_equal_the_published_code(side):
    images, degraded = photographs(side)
    for picture, expected in zip(images, degraded, strict=True):
        got = steps.down_up(tf.constant(picture), side=side, antialias=True)
        assert_within_one_grey_level(got.numpy(), expected)


@pytest.mark.parametrize("side", RESOLUTIONS)
def test_a_drawn_face_equals_the_published_code(image, side):
    got = steps.down_up(image, side=side, antialias=True)
    assert_within_one_grey_level(got.numpy(), drawn()[1][side])


@pytest.mark.parametrize("side", [1, 2, 111, 112])
def test_sides_at_the_border(image, side):
    got = steps.down_up(image, side=side, antialias=True).numpy()
    assert got.dtype == np.uint8
    assert got.shape == (112, 112, 3)
    if side == 1:
        assert np.ptp(got, axis=(0, 1)).max() == 0
    if side == 112:
        np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("side", [0, 113])
def test_sides_out_of_range_are_refused(image, side):
    with pytest.raises(ValueError, match=f"side: got {side}"):
        steps.down_up(image, side=side, antialias=True)


@pytest.mark.parametrize("recipe", SINGLE)
def test_probability_0_leaves_the_picture_alone(image, recipe):
    for got in run(recipe, image, settings(recipe), 5):
        np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("recipe", SINGLE)
def test_flip_probability_1_mirrors(image, recipe):
    params = settings(recipe, flip_probability=1.0)
    for got in run(recipe, image, params, 3):
        np.testing.assert_array_equal(got, image[:, ::-1])


@pytest.mark.parametrize("recipe", SINGLE)
def test_draws_follow_from_the_seed_alone(image, recipe):
    params = base.get_config().degrade[recipe]
    call = RECIPES[recipe].draw
    first = run(recipe, image, params, 12)
    np.testing.assert_array_equal(run(recipe, image, params, 12), first)
    alone = call(image, tf.constant([9, 7], tf.int64), params)
    np.testing.assert_array_equal(alone, first[7])
    other = call(image, tf.constant([10, 7], tf.int64), params)
    assert len({picture.tobytes() for picture in first}) > 1
    assert other.dtype == tf.uint8


def test_flip_probability_is_kept(image):
    got = run("clean", image, settings("clean", flip_probability=0.3), 400)
    flipped = (got == image.numpy()[:, ::-1]).all(axis=(1, 2, 3)).mean()
    assert abs(flipped - 0.3) < 0.08


def test_crop_keeps_a_rectangle_in_its_place_on_black(image):
    bright = tf.maximum(image, 1)
    params = settings("adaface", crop_probability=1.0)
    areas = []
    for got in run("adaface", bright, params, 60):
        kept = got.any(axis=2)
        rows, columns = kept.any(axis=1), kept.any(axis=0)
        np.testing.assert_array_equal(kept, rows[:, None] & columns[None])
        np.testing.assert_array_equal(got[kept], bright.numpy()[kept])
        # One rectangle: no black between its rows or its columns.
        assert np.abs(np.diff(rows.astype(int))).sum() <= 2
        aspect = columns.sum() / rows.sum()
        assert 0.7 < aspect < 1.42
        areas.append(kept.mean())
    assert 0.18 < min(areas) < 0.4
    assert 0.8 < max(areas) <= 1.0


def test_crop_that_never_fits_keeps_the_whole_picture(image):
    params = settings(
        "adaface", crop_probability=1.0, crop_area=(1.0, 1.0), crop_aspect=(1.3, 1.3)
    )
    for got in run("adaface", image, params, 3):
        np.testing.assert_array_equal(got, image)


def test_rescale_goes_down_and_up(image):
    params = settings("adaface", rescale_probability=1.0, rescale_side=(0.2, 0.2))
    fine = np.abs(np.diff(image.numpy().astype(int), axis=1)).mean()
    got = run("adaface", image, params, 40)
    assert len({picture.tobytes() for picture in got}) > 12  # of 25 pairs of kernels
    mean = np.abs(np.diff(got.astype(int), axis=2)).mean()
    assert mean < 0.75 * fine
    # In the mean over the picture nothing is lost but what the borders weigh.
    np.testing.assert_allclose(
        got.mean(axis=(1, 2)), np.broadcast_to(image.numpy().mean((0, 1)), (40, 3)), 0.1
    )


def test_rescale_to_the_full_side_changes_nothing(image):
    params = settings("adaface", rescale_probability=1.0, rescale_side=(1.0, 1.0))
    for got in run("adaface", image, params, 5):
        np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("order", range(6))
def test_jitter_equals_pillow(image, order):
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    factors = (1.37, 0.61, 1.29)
    draws = tf.constant([(f - 0.5) for f in factors] + [(order + 0.5) / 6], tf.float32)
    got = photometric.jitter(image, draws, strength=0.5).numpy()
    expected = Image.fromarray(image.numpy())
    for which in photometric._ORDERS[order]:
        expected = enhancers[which](expected).enhance(factors[which])
    off = np.abs(got.astype(int) - np.asarray(expected).astype(int))
    assert (off > 1).mean() < 0.001
    assert (off > 0).mean() < 0.02


def test_resolution_draws_every_side(image):
    params = settings("resolution", probability=1.0)
    got = run("resolution", image, params, 60)
    expected = {
        steps.down_up(image, side=side, antialias=True).numpy().tobytes(): side
        for side in params.sides
    }
    drawn_sides = [expected[picture.tobytes()] for picture in got]
    for side in params.sides:
        assert drawn_sides.count(side) > 8


def test_resolution_probability_is_kept(image):
    got = run("resolution", image, settings("resolution", probability=0.3), 300)
    untouched = (got == image.numpy()).all(axis=(1, 2, 3)).mean()
    assert abs(untouched - 0.7) < 0.09


def test_jpeg_is_applied_at_the_small_size(image):
    plain = settings("resolution", probability=1.0, sides=(28,))
    packed = settings("resolution", probability=1.0, sides=(28,), jpeg_probability=1.0)
    rough = ConfigDict(packed.to_dict() | {"jpeg_quality": (5, 5)})
    clean, fair, poor = (
        run("resolution", image, params, 3).astype(int)
        for params in (plain, packed, rough)
    )
    near, far = np.abs(fair - clean).mean(), np.abs(poor - clean).mean()
    assert 0 < near < far
    # The blocks are those of the small picture: nothing finer than 28 px comes in.
    again = steps.down_up(
        tf.constant(poor[0].astype(np.uint8)), side=28, antialias=True
    ).numpy()
    assert np.abs(again - poor[0]).mean() < 6
