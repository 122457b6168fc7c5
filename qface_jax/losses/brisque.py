"""BRISQUE: the quality of an image from the statistics of its pixels.

It needs no reference. In a natural photograph the mean subtracted, contrast normalised
(MSCN) coefficients follow a generalised Gaussian; distortions change its shape. 18
parameters of such fits at each of two scales go through a support vector regression
with an RBF kernel, trained on people's opinions of distorted photographs.

The regression and the ranges of the features, `brisque.npz`, are those of the PyPI
package `brisque` 0.2.0 (models/svm.txt and models/normalize.pickle, as float32), by
Rehan Guha, Apache License 2.0: `brisque_LICENSE.txt`. Grey values, borders (zeros
beyond the image) and the half-sized image (bicubic, a = -0.75, without anti-aliasing)
follow it, too.

References:
    Mittal, Moorthy, Bovik. No-Reference Image Quality Assessment in the Spatial Domain.
    IEEE Transactions on Image Processing 21(12), 2012.
"""

import functools
import importlib.resources
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, UInt8

Images = UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]

GREY = (0.2125, 0.7154, 0.0721)  # of R, G, B
SIDE, SIGMA = 7, 7.0 / 6.0  # of the Gaussian window, px
SATURATION = 1.0 / 255.0  # C, of grey values within [0, 1]
BICUBIC = (-0.09375, 0.59375, 0.59375, -0.09375)  # at -1.5, -0.5, 0.5 and 1.5 px
MIN_SHAPE, MAX_SHAPE = 0.2, 10.0  # between which a fit's shape is looked for
_SHAPES = 4096  # of the table, evenly spaced in log
_ROUNDING = 1e-6  # of float32 sums of grey values within [0, 1]
_TINY = 1e-30  # keeps a division by zero out of images without any variation


class _Regression(NamedTuple):
    """Support vectors [n, 36], their coefficients [n], ranges [36], and constants."""

    support_vectors: np.ndarray
    coefficients: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    gamma: np.ndarray
    rho: np.ndarray


@functools.cache
def _regression() -> _Regression:
    file = importlib.resources.files("qface_jax.losses") / "brisque.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return _Regression(**{name: arrays[name] for name in _Regression._fields})


@functools.cache
def _window_matrix(length: int) -> np.ndarray:
    """The Gaussian window as a matrix on an axis, zeros beyond its ends."""
    offsets = np.arange(length)[:, None] - np.arange(length)
    window = np.where(
        np.abs(offsets) <= SIDE // 2, np.exp(-(offsets**2) / (2 * SIGMA**2)), 0.0
    )
    inside = np.arange(SIDE) - SIDE // 2
    return (window / np.sum(np.exp(-(inside**2) / (2 * SIGMA**2)))).astype(np.float32)


@functools.cache
def _half_matrix(length: int) -> np.ndarray:
    """Bicubic interpolation of an axis at half its length; the ends are repeated."""
    matrix = np.zeros((length // 2, length), np.float32)
    for row in range(length // 2):
        for tap, weight in enumerate(BICUBIC):
            column = min(max(2 * row - 1 + tap, 0), length - 1)
            matrix[row, column] += weight
    return matrix


@functools.cache
def _shape_table() -> tuple[np.ndarray, np.ndarray]:
    """phi(a) = Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)), rising, and log a."""
    logs = np.linspace(math.log(MIN_SHAPE), math.log(MAX_SHAPE), _SHAPES)

    def phi(shape):
        of = [math.lgamma(k / shape) for k in (1, 2, 3)]
        return math.exp(2 * of[1] - of[0] - of[2])

    ratios = np.array([phi(math.exp(value)) for value in logs])
    return ratios.astype(np.float32), logs.astype(np.float32)


def _along_both(matrix, images):
    """Applies a matrix of each axis's length to rows and columns of [b, h, w]."""
    exact = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    rows, columns = matrix(images.shape[1]), matrix(images.shape[2])
    return exact("xh,bhw,yw->bxy", rows, images, columns)


def _mscn(grey):
    """(I - mu) / (sigma + C) with mu and sigma over a Gaussian window, [b, h, w]."""
    mean = _along_both(_window_matrix, grey)
    variance = jnp.abs(_along_both(_window_matrix, grey**2) - mean**2)
    deviation = grey - mean
    # On plain ground it is rounding, whose sign would be the device's.
    deviation = jnp.where(jnp.abs(deviation) < _ROUNDING, 0.0, deviation)
    return deviation / (jnp.sqrt(variance) + SATURATION)


def _moments(x):
    """Mean squares of x < 0 and of x >= 0, of all, and mean |x|, of [b, h, w]: [b, 4].

    Without values below 0 the mean of their squares is 0.
    """
    axes, left = (1, 2), x < 0
    squares = x**2

    def mean_square(of):
        count = jnp.maximum(jnp.sum(of, axis=axes, dtype=x.dtype), 1.0)
        return jnp.sum(jnp.where(of, squares, 0.0), axis=axes) / count

    means = (jnp.mean(squares, axis=axes), jnp.mean(jnp.abs(x), axis=axes))
    return jnp.stack([mean_square(left), mean_square(~left), *means], axis=1)


def _fit(moments):
    """Asymmetric generalised Gaussians of moments [b, k, 4]: shapes and means, [b, k].

    The ratio of the squared mean magnitude to the mean square gives the shape; without
    any variation it is MIN_SHAPE.
    """
    left, right, square, magnitude = jnp.moveaxis(moments, -1, 0)
    ratio = magnitude**2 / jnp.maximum(square, _TINY)
    # (g^3 + 1)(g + 1) / (g^2 + 1)^2 with g = a / b, also for a b of 0; the greater of
    # the two is 1.
    greater = jnp.sqrt(jnp.maximum(jnp.maximum(left, right), _TINY))
    std_left, std_right = jnp.sqrt(left), jnp.sqrt(right)
    a, b = std_left / greater, std_right / greater
    asymmetry = (a**3 + b**3) * (a + b) / jnp.maximum((a**2 + b**2) ** 2, _TINY)
    ratios, logs = _shape_table()
    shape = jnp.exp(jnp.interp(ratio * asymmetry, ratios, logs))
    one, two, three = (gammaln(k / shape) for k in (1.0, 2.0, 3.0))
    return shape, (std_right - std_left) * jnp.exp(two - 0.5 * (one + three))


def _maps(grey):
    """MSCN coefficients, and products of neighbours, of grey values within [0, 1]."""
    x = _mscn(grey)
    return (
        x,
        x[:, :, :-1] * x[:, :, 1:],
        x[:, :-1] * x[:, 1:],
        x[:, :-1, :-1] * x[:, 1:, 1:],
        x[:, 1:, :-1] * x[:, :-1, 1:],
    )


def features(images: Images) -> Float[Array, "b 36"]:
    """Returns the 36 features of images, at full and at half size.

    At each size: shape and variance of the MSCN coefficients, then shape, mean, left
    and right variance of the products of horizontal, vertical and both kinds of
    diagonal neighbours.

    Args:
        images: RGB within 0..255, [b, h, w, 3], h and w even and at least 16.

    Returns:
        Features, float32, without gradient; finite for every image, also for one of a
        single colour.

    Raises:
        ValueError: a side is odd or too small.
    """
    if min(images.shape[1:3]) < 16 or any(side % 2 for side in images.shape[1:3]):
        raise ValueError(
            f"BRISQUE: got images of {images.shape[1]} x {images.shape[2]} px, "
            "expected even sides of at least 16 px; resize them first"
        )
    pixels = lax.stop_gradient(images).astype(jnp.float32)
    grey = sum(w * pixels[..., i] for i, w in enumerate(GREY)) / 255.0
    half = _along_both(_half_matrix, grey)
    # The fits of all maps at once: a tenth of the code to compile.
    maps = (*_maps(grey), *_maps(half))
    moments = jnp.stack([_moments(x) for x in maps], axis=1)
    shapes, means = _fit(moments)
    left, right = moments[..., 0], moments[..., 1]
    columns = []
    for i in range(len(maps)):
        columns.append(shapes[:, i])
        if i % 5 == 0:
            columns.append((left[:, i] + right[:, i]) / 2)
        else:
            columns += [means[:, i], left[:, i], right[:, i]]
    return jnp.stack(columns, axis=1)


def score(images: Images) -> Float[Array, " b"]:
    """Returns the BRISQUE score, about 0 (natural) to 100 (distorted), [b].

    sum_i c_i exp(-gamma |x - v_i|^2) - rho of the features x, scaled to [-1, 1] over
    the ranges of the training set. It may lie outside 0..100; an image unlike
    every support vector has -rho, 155.8.

    Args:
        images: As in `features`.

    Returns:
        Scores, float32, without gradient; lower is better.
    """
    model = _regression()
    scale = 2.0 / (model.maximum - model.minimum)[None, :]
    x = scale * (features(images) - model.minimum[None, :]) - 1.0
    v = model.support_vectors
    product = jnp.dot(x, v.T, precision=lax.Precision.HIGHEST)
    lengths = jnp.sum(x**2, axis=1)[:, None] + np.sum(v**2, axis=1)[None, :]
    squared = jnp.maximum(lengths - 2.0 * product, 0.0)
    kernel = jnp.exp(-model.gamma * squared)
    return jnp.dot(kernel, model.coefficients, precision=lax.Precision.HIGHEST) - (
        model.rho
    )


def quality(images: Images) -> Float[Array, " b"]:
    """Returns 1 - BRISQUE / 100 of images, about 0 (bad) to 1 (good), [b].

    The quality that AdaFace calls 1 - BRISQUE (Fig. 4, Table 1), with the score as a
    share. It is not clipped.

    Args:
        images: As in `features`.
    """
    return 1.0 - score(images) / 100.0
