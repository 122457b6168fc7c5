"""Down- and up-sampling on the device: published goldens, and the host's matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.degradation import resample
from qface_jax.data_pipelines.degradation import steps as host_steps
from qface_jax.data_pipelines.device_degradation import resampling, steps
from support.degrade_goldens import (
    RESOLUTIONS,
    assert_within_one_grey_level,
    drawn,
    photographs,
)

SIDES = np.arange(1, 113)


@jax.jit
def down_up(images, sides):
    """Every image down to its own side and up again, as the step `shrink` does it."""
    everywhere = tuple(range(1, 113))
    draws = jnp.stack([(sides - 0.5) / 112, sides * 0, sides * 0], 1)
    planes = steps.shrink(steps.planes(images), draws, everywhere, antialias=True)
    return steps.pictures(planes)


def on_the_device(images, sides):
    return np.asarray(down_up(jnp.asarray(images), jnp.array(sides, jnp.float32)))


@pytest.mark.parametrize("side", RESOLUTIONS)
def test_photographs_equal_the_published_code(side):
    images, degraded = photographs(side)
    assert_within_one_grey_level(on_the_device(images, [side] * len(images)), degraded)


def test_a_drawn_face_equals_the_published_code_at_every_side_in_one_batch():
    image, degraded = drawn()
    out = on_the_device(np.stack([image] * 4), list(RESOLUTIONS))
    for side, got in zip(RESOLUTIONS, out, strict=True):
        assert_within_one_grey_level(got, degraded[side])


def test_equals_the_input_pipeline():
    image, _ = drawn()
    sides = [1, 2, 5, 29, 111, 112]
    for side, got in zip(sides, on_the_device([image] * 6, sides), strict=True):
        on_host = host_steps.down_up(tf.constant(image), side=side, antialias=True)
        # At 112 px the evaluation leaves a picture alone, the step multiplies by one.
        assert_within_one_grey_level(got, on_host.numpy())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("kernel", list(resampling.KERNELS))
def test_the_matrices_are_those_of_the_host_at_every_side(kernel, antialias):
    kernels = tuple(resampling.KERNELS)
    chosen = jnp.full(len(SIDES), kernels.index(kernel))
    down, up = (
        np.asarray(
            resampling.matrices(
                *sizes, (112, 112), kernels, chosen, antialias=antialias
            )
        )
        for sizes in ((112, jnp.array(SIDES)), (jnp.array(SIDES), 112))
    )
    for side, smaller, larger in zip(SIDES, down, up, strict=True):
        expected = resample.weights(112, side, kernel, antialias=antialias)
        np.testing.assert_allclose(smaller[:side], expected, atol=3e-6)
        # Beyond the side the last row goes on.
        np.testing.assert_array_equal(
            smaller[side:], np.repeat(smaller[side - 1 : side], 112 - side, 0)
        )
        expected = resample.weights(side, 112, kernel, antialias=antialias)
        np.testing.assert_allclose(larger[:, :side], expected, atol=3e-6)
        assert not larger[:, side:].any()


def test_each_picture_takes_its_own_kernel():
    kernels = ("nearest", "bicubic", "lanczos")
    one = resampling.matrices(
        112, 30, (30, 112), kernels, jnp.array([2, 0, 1]), antialias=False
    )
    for matrix, name in zip(one, ("lanczos", "nearest", "bicubic"), strict=True):
        expected = resample.weights(112, 30, name, antialias=False)
        np.testing.assert_allclose(matrix, expected, atol=3e-6)
