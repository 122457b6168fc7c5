"""Crops and rotation beside Pillow's, for given boxes and angles."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax.data_pipelines.degradation import geometry
from qface_jax.data_pipelines.degradation.recipe import BOX_DRAWS
from support.degrade_goldens import drawn

SIDE = 112


@pytest.fixture(scope="module")
def image():
    return drawn()[0]


def off(got, expected):
    assert got.dtype == tf.uint8
    return np.abs(got.numpy().astype(int) - np.asarray(expected).astype(int))


@pytest.mark.parametrize(
    ("top", "left", "height", "width"),
    [(7, 3, 100, 90), (0, 0, 112, 86), (11, 0, 101, 112), (60, 40, 30, 1)],
)
def test_a_box_fills_the_picture_as_in_pillow(image, top, left, height, width):
    box = tuple(tf.constant(v) for v in (top, left, height, width))
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    expected = cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    found = off(geometry.enlarge_box(tf.constant(image), box), expected)
    assert found.max() <= 1
    assert found.mean() < 0.25  # Pillow rounds between the two ways


def test_the_whole_picture_as_a_box_is_the_picture(image):
    box = tuple(tf.constant(v) for v in (0, 0, SIDE, SIDE))
    for change in (geometry.enlarge_box, geometry.keep_box):
        np.testing.assert_array_equal(change(tf.constant(image), box), image)


def test_boxes_have_the_area_and_the_aspect_asked_for():
    draws = np.random.default_rng(0).random((300, BOX_DRAWS))
    call = tf.function(
        lambda row: geometry.draw_box(row, SIDE, area=(0.8, 1.0), aspect=(0.75, 4 / 3))
    )
    boxes = np.array([call(tf.constant(row, tf.float32)) for row in draws])
    tops, lefts, heights, widths = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert max((tops + heights).max(), (lefts + widths).max()) == SIDE
    area = heights * widths / SIDE**2
    # Sides are whole pixels: half of one in a hundred is 0.005 of each.
    assert 0.79 < area.min() < 0.82
    assert 0.94 < area.max() <= 1.0
    assert (widths / heights).min() > 0.74
    assert (widths / heights).max() < 1.35
    assert (widths < heights).mean() == pytest.approx(0.5, abs=0.1)
    free = SIDE - heights
    assert (tops[free > 4] / free[free > 4]).mean() == pytest.approx(0.5, abs=0.1)
    assert len(np.unique(lefts)) > 8


def test_a_box_that_never_fits_is_the_whole_picture():
    draws = tf.fill([BOX_DRAWS], 0.5)
    box = geometry.draw_box(draws, SIDE, area=(1.0, 1.0), aspect=(1.3, 1.3))
    assert [int(value) for value in box] == [0, 0, SIDE, SIDE]


@pytest.mark.parametrize("degrees", [0.0, 7.0, -33.0, 45.0, 90.0, 180.0])
def test_rotation_is_that_of_pillow(image, degrees):
    got = geometry.rotate(tf.constant(image), tf.constant(degrees))
    expected = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
    angle, middle = math.radians(degrees), (SIDE - 1) / 2
    x, y = np.meshgrid(np.arange(SIDE) - middle, np.arange(SIDE) - middle)
    from_x = x * math.cos(angle) - y * math.sin(angle)
    from_y = x * math.sin(angle) + y * math.cos(angle)
    farthest = np.maximum(np.abs(from_x), np.abs(from_y))
    inside, outside = farthest < middle - 0.01, farthest > middle + 1.01
    assert off(got, expected)[inside].max() <= 1
    assert got.numpy()[outside].max(initial=0) == 0
    assert np.asarray(expected)[outside].max(initial=0) == 0
    # All but the outermost pixels of the picture are one or the other.
    assert (inside | outside).mean() > 0.95


def test_rotation_by_nothing_changes_nothing(image):
    got = geometry.rotate(tf.constant(image), tf.constant(0.0))
    np.testing.assert_array_equal(got, image)
