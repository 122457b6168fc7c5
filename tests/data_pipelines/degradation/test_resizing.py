"""TensorFlow's kernels beside the matrices that they stand for."""

import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.degradation import resample, resizing
from support.degrade_goldens import drawn

SIDES = (5, 22, 37, 56, 111, 112)


@pytest.mark.parametrize("kernel", resample.KERNELS)
def test_plain_resampling_is_that_of_the_matrices(kernel):
    image = drawn()[0].astype(np.float32)
    for side in SIDES:
        small = resizing.plain_shrink(
            tf.constant(image), tf.constant(side), kernel, SIDES
        )
        large = resizing.plain_grow(small, kernel, SIDES)
        expected = resample.resize(image, side, side, kernel, antialias=False)
        assert_close(small, expected)
        whole = resample.resize(small.numpy(), 112, 112, kernel, antialias=False)
        assert_close(large, whole)


def assert_close(got, expected):
    assert got.dtype == tf.float32
    off = np.abs(got.numpy() - expected)
    # The bicubic kernel takes its weights from a table of 1,024 places.
    assert off.max() < 0.5
    assert off.mean() < 0.05
