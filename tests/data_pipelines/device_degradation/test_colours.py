"""Colours on the device: exactly those of the input pipeline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.degradation import hue as host_hue
from qface_jax.data_pipelines.degradation import photometric as host
from qface_jax.data_pipelines.device_degradation import hue, photometric, steps
from support.degrade_goldens import drawn


@pytest.fixture(scope="module")
def images():
    face = drawn()[0]
    noise = np.random.default_rng(0).integers(0, 256, face.shape, np.uint8)
    return np.stack([face, noise, face * 0, face * 0 + 255])


@pytest.mark.parametrize("hue_shift", [None, 0.5])
def test_jitter_in_every_order(images, hue_shift):
    images = np.concatenate([images[:2]] * 6)
    draws = np.random.default_rng(0).random((len(images), 4), np.float32)
    draws[:, 3] = (np.arange(6).repeat(2) + 0.5) / 6
    named = {"strength": 0.5, "hue_shift": hue_shift}
    got = jax.jit(
        lambda images: steps.pictures(
            photometric.jitter(steps.planes(images), jnp.asarray(draws), **named)
        )
    )(images)
    for picture, image, draw in zip(got, images, draws, strict=True):
        expected = host.jitter(tf.constant(image), tf.constant(draw), **named)
        # A product and a sum may be rounded once instead of twice.
        wrong = np.asarray(picture) != expected.numpy()
        assert wrong.mean() < 1e-3


def test_brightness_and_saturation(images):
    draws = np.random.default_rng(1).random((len(images), 2), np.float32)
    got = jax.jit(
        lambda images: steps.pictures(
            photometric.brighten_and_saturate(
                steps.planes(images), jnp.asarray(draws), strengths=(0.2, 0.4)
            )
        )
    )(images)
    for picture, image, draw in zip(got, images, draws, strict=True):
        expected = host.brighten_and_saturate(
            tf.constant(image), tf.constant(draw), strengths=(0.2, 0.4)
        )
        assert (np.asarray(picture) != expected.numpy()).mean() < 1e-3


@pytest.mark.parametrize("share", [0.0, 0.1, -0.07, 0.5, -0.5])
def test_every_hue_is_turned_as_by_pillow(share):
    """All differences of two colours, at several heights: every quotient there is."""
    one, other = np.meshgrid(np.arange(256), np.arange(256))
    colours = [
        np.stack([(one + lift) % 256, np.full_like(one, lift), other])[list(turned)]
        for lift in (0, 1, 100)
        for turned in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    ]
    planes = np.concatenate([x.reshape(3, -1) for x in colours], 1).astype(np.float32)
    got = jax.jit(hue.turn)(
        planes.reshape(1, 3, 256, -1), jnp.array([share], jnp.float32)
    )
    expected = host_hue.turn(tf.constant(planes), tf.constant(share)).numpy()
    np.testing.assert_array_equal(np.asarray(got).reshape(3, -1), expected)
