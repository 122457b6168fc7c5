"""Crops and rotation on the device beside those of the input pipeline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.degradation import geometry as host
from qface_jax.data_pipelines.degradation.recipe import BOX_DRAWS
from qface_jax.data_pipelines.device_degradation import geometry, steps
from support.degrade_goldens import assert_within_one_grey_level, drawn

AREAS = {"area": (0.1, 1.0), "aspect": (0.5, 2.0)}


def boxes(count, **named):
    draws = np.random.default_rng(3).random((count, BOX_DRAWS), np.float32)
    on_host = [host.draw_box(tf.constant(draw), 112, **named) for draw in draws]
    return geometry.draw_box(jnp.asarray(draws), 112, **named), on_host


def test_boxes():
    got, expected = boxes(400, **AREAS)
    np.testing.assert_array_equal(np.stack(got, 1), np.array(expected))


def test_where_no_box_fits_the_picture_stays_whole():
    got, expected = boxes(5, area=(1.0, 1.0), aspect=(1.3, 1.3))
    np.testing.assert_array_equal(np.stack(got, 1), [[0, 0, 112, 112]] * 5)
    np.testing.assert_array_equal(np.stack(got, 1), np.array(expected))


@pytest.mark.parametrize("change", ["keep_box", "enlarge_box"])
def test_what_is_done_to_a_box(change):
    image = drawn()[0]
    got, expected = boxes(12, **AREAS)
    planes = steps.planes(jnp.stack([jnp.asarray(image)] * 12))
    made = steps.pictures(jax.jit(getattr(geometry, change))(planes, got))
    for picture, box in zip(made, expected, strict=True):
        on_host = getattr(host, change)(tf.constant(image), box).numpy()
        assert_within_one_grey_level(np.asarray(picture), on_host)
        assert change != "keep_box" or np.array_equal(picture, on_host)


@pytest.mark.parametrize("side", [1, 112])
def test_the_smallest_and_the_largest_box_fill_the_picture(side):
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    box = tuple(jnp.array([number]) for number in (0, 0, side, side))
    made = geometry.enlarge_box(steps.planes(jnp.asarray(image)[None]), box)
    expected = image if side == 112 else np.broadcast_to(image[0, 0], image.shape)
    np.testing.assert_array_equal(steps.pictures(made)[0], expected)


def test_rotation():
    image = drawn()[0]
    degrees = np.array([-180, -90, -44.9, -7.3, 0, 0.1, 10, 45, 90, 180], np.float32)
    planes = steps.planes(jnp.stack([jnp.asarray(image)] * len(degrees)))
    made = steps.pictures(jax.jit(geometry.rotate)(planes, degrees))
    for picture, angle in zip(made, degrees, strict=True):
        expected = host.rotate(tf.constant(image), tf.constant(angle)).numpy()
        off = np.abs(np.asarray(picture).astype(int) - expected)
        # By a right angle a place is a pixel's but for rounding, of which a fraction
        # that is cut off makes a whole grey level.
        assert (off > 1).mean() <= 0.001, angle
        assert (off > 0).mean() <= (0.01 if angle % 90 else 0.5), angle


def test_mirroring():
    image = drawn()[0]
    made = geometry.flip(steps.planes(jnp.asarray(image)[None]))
    np.testing.assert_array_equal(steps.pictures(made)[0], image[:, ::-1])
