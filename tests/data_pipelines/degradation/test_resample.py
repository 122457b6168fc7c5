"""The resampling matrices against TensorFlow's and Pillow's own resizing."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax.data_pipelines.degradation import resample

SIZES = [1, 2, 7, 14, 33, 56, 100, 111, 112, 150]


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.float32)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "method"),
    [("bicubic", "bicubic"), ("bilinear", "bilinear"), ("lanczos", "lanczos3")],
)
def test_equals_tensorflow(noise, kernel, method, antialias):
    # Without anti-aliasing TensorFlow looks bicubic up in a table of 1,024 steps.
    atol = 0.5 if kernel == "bicubic" and not antialias else 0.01
    for size in SIZES:
        expected = tf.image.resize(noise, [size, size], method, antialias=antialias)
        got = resample.resize(noise, size, size, kernel, antialias=antialias)
        np.testing.assert_allclose(got, expected, atol=atol, err_msg=f"{size}")


def test_nearest_and_area_equal_tensorflow(noise):
    for size in SIZES:
        got = resample.resize(noise, size, size, "nearest", antialias=False)
        expected = tf.image.resize(noise, [size, size], "nearest")
        np.testing.assert_array_equal(got, expected)
        if size <= 112:
            got = resample.resize(noise, size, size, "area", antialias=False)
            expected = tf.image.resize(noise[None], [size, size], "area")[0]
            np.testing.assert_allclose(got, expected, atol=0.01)


@pytest.mark.parametrize(
    ("kernel", "method"),
    [
        ("area", Image.Resampling.BOX),
        ("bicubic", Image.Resampling.BICUBIC),
        ("bilinear", Image.Resampling.BILINEAR),
        ("lanczos", Image.Resampling.LANCZOS),
    ],
)
def test_equals_pillow_on_one_channel(noise, kernel, method):
    plane = noise[:, :, 0]
    for size in (14, 28, 56):
        expected = np.asarray(Image.fromarray(plane).resize((size, size), method))
        rows = resample.weights(112, size, kernel, antialias=True)
        np.testing.assert_allclose(rows @ plane @ rows.T, expected, atol=0.01)


@pytest.mark.parametrize("kernel", resample.KERNELS)
@pytest.mark.parametrize("antialias", [True, False])
def test_rows_sum_to_one_and_the_same_size_changes_nothing(kernel, antialias):
    for size_in, size_out in ((112, 1), (1, 112), (112, 7), (7, 112), (5, 3)):
        matrix = resample.weights(size_in, size_out, kernel, antialias=antialias)
        assert matrix.shape == (size_out, size_in)
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    same = resample.weights(112, 112, kernel, antialias=antialias)
    np.testing.assert_allclose(same, np.eye(112), atol=1e-7)


def test_table_holds_every_matrix():
    kernels = ("nearest", "bicubic")
    table = resample.table(112, (7, 30), kernels, antialias=False)
    for row, kernel in enumerate(kernels):
        for side in (7, 30):
            at = table.offsets[row, side]
            down = table.down[at : at + side * 112].reshape(side, 112)
            up = table.up[at : at + side * 112].reshape(112, side)
            np.testing.assert_array_equal(
                down, resample.weights(112, side, kernel, antialias=False)
            )
            np.testing.assert_array_equal(
                up, resample.weights(side, 112, kernel, antialias=False)
            )
    assert table.offsets[0, 8] == -1


def test_tables_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        resample.weights(112, 7, "bicubic", antialias=True)[0, 0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5, "area"), "sizes"), ((5, 0, "area"), "sizes"), ((5, 5, "spline"), "kern")],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        resample.weights(*arguments, antialias=True)
