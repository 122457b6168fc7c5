"""Down- and up-sampling on the device: published goldens, and the input pipeline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.degradation import on_device, steps
from support.degrade_goldens import (
    RESOLUTIONS,
    assert_within_one_grey_level,
    drawn,
    photographs,
)


def on_the_device(images, sides):
    """Every image down to its own side and up again, as uint8."""
    known = tuple(sorted(set(sides)))
    table = on_device.round_trip_table(112, known, antialias=True)
    rows = jnp.array([known.index(side) for side in sides])
    out = jax.jit(on_device.down_up)(jnp.asarray(images, jnp.float32), table, rows)
    return np.asarray(on_device.truncate(out)).astype(np.uint8)


@pytest.mark.parametrize("side", RESOLUTIONS)
def test_photographs_equal_the_published_code(side):
    images, degraded = photographs(side)
    assert_within_one_grey_level(on_the_device(images, [side] * len(images)), degraded)


def test_a_drawn_face_equals_the_published_code_at_every_side_in_one_batch():
    image, degraded = drawn()
    out = on_the_device(np.stack([image] * 4), list(RESOLUTIONS))
    for side, got in zip(RESOLUTIONS, out, strict=True):
        assert_within_one_grey_level(got, degraded[side])


@pytest.mark.parametrize("side", [1, 2, 5, 29, 111, 112])
def test_equals_the_input_pipeline(side):
    image, _ = drawn()
    on_host = steps.down_up(tf.constant(image), side=side, antialias=True)
    assert_within_one_grey_level(on_the_device(image[None], [side])[0], on_host.numpy())


def test_the_full_side_leaves_a_picture_alone():
    image, _ = drawn()
    table = on_device.round_trip_table(112, (112,), antialias=True)
    out = on_device.down_up(
        jnp.asarray(image[None], jnp.float32), table, jnp.zeros(1, jnp.int32)
    )
    np.testing.assert_allclose(out[0], image, atol=1e-3)


def test_draws_every_side_about_equally_often():
    rows = on_device.draw_sides(jax.random.key(0), 6000, num_sides=3)
    assert rows.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(rows) / 6000, 1 / 3, atol=0.03)


def test_antialiasing_matters():
    image, _ = drawn()
    images = jnp.asarray(image[None], jnp.float32)
    row = jnp.zeros(1, jnp.int32)
    with_it, without = (
        on_device.down_up(
            images, on_device.round_trip_table(112, (14,), antialias=antialias), row
        )
        for antialias in (True, False)
    )
    assert np.abs(np.asarray(with_it - without)).max() > 10
