"""Resampling of pictures as matrices: a new size is W_rows @ image @ W_columns^T.

A kernel and a pair of sizes make one small matrix, worked out once; applying it is two
matrix products, and going down and up again is four. The geometry is that of
TensorFlow, JAX and Pillow: pixels are squares, their centres at i + 1/2.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def _box(t: np.ndarray) -> np.ndarray:
    # Half open, so that a point between two pixels belongs to one of them.
    return ((t > -0.5) & (t <= 0.5)).astype(np.float64)


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0)


def _cubic(t: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -1/2, as in TensorFlow, JAX and Pillow (OpenCV: -3/4)."""
    t = np.abs(t)
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _lanczos(t: np.ndarray) -> np.ndarray:
    """Lanczos' windowed sinc with three lobes."""
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "area": _box,
    "bicubic": _cubic,
    "bilinear": _triangle,
    "lanczos": _lanczos,
    "nearest": _box,
}


@functools.lru_cache(maxsize=4096)
def weights(size_in: int, size_out: int, kernel: str, *, antialias: bool) -> np.ndarray:
    """Returns the matrix that resamples a row of `size_in` pixels to `size_out`.

    W[o, i] = k((i + 1/2 - (o + 1/2) size_in / size_out) / f), each row divided by its
    sum; f = max(1, size_in / size_out) with anti-aliasing, else 1.

    Args:
      size_in: at least 1.
      size_out: at least 1.
      kernel: a key of KERNELS. "area" always averages over the whole new pixel,
        "nearest" always takes one pixel, whatever `antialias` says.
      antialias: widen the kernel when the picture gets smaller.

    Returns:
      float32 [size_out, size_in], read-only; rows sum to 1.

    Raises:
      ValueError: a size below 1 or an unknown kernel.
    """
    if size_in < 1 or size_out < 1:
        raise ValueError(f"sizes: got {size_in} and {size_out}, must be at least 1")
    if kernel not in KERNELS:
        raise ValueError(f"kernel: got {kernel!r}, must be one of {list(KERNELS)}")
    scale = size_in / size_out
    if kernel == "nearest":
        # In whole numbers: (i + 1/2) * 112 / 111 is a whole number for one i.
        taken = (2 * np.arange(size_out) + 1) * size_in // (2 * size_out)
        matrix = np.eye(size_in)[taken]
    elif kernel == "area" and scale > 1:
        # Exact overlap of the old pixels with each new one, also for odd ratios.
        edges = np.arange(size_out)[:, None] * scale
        pixels = np.arange(size_in)[None]
        matrix = np.minimum(pixels + 1, edges + scale) - np.maximum(pixels, edges)
        matrix = np.maximum(matrix, 0)
    else:
        stretch = max(1.0, scale) if antialias else 1.0
        centres = (np.arange(size_out)[:, None] + 0.5) * scale
        distance = np.arange(size_in)[None] + 0.5 - centres
        matrix = KERNELS[kernel](distance / stretch)
    matrix = matrix / matrix.sum(axis=1, keepdims=True)
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


class Table(NamedTuple):
    """Matrices of many kernels and sides behind one another, for drawing any.

    Attributes:
      down: float32 [n]; the matrix [r, size] of kernel k begins at `offset(k, r)`.
      up: float32 [n]; the matrix [size, r] of kernel k begins at `offset(k, r)`.
      offsets: int64 [kernels, max(sides) + 1]; -1 for a side that is not held.
    """

    down: np.ndarray
    up: np.ndarray
    offsets: np.ndarray


@functools.lru_cache(maxsize=16)
def table(
    size: int, sides: tuple[int, ...], kernels: tuple[str, ...], *, antialias: bool
) -> Table:
    """Returns the matrices from `size` to every side and back, for every kernel.

    Args:
      size: side of the pictures, at least 1.
      sides: r, each at least 1.
      kernels: keys of KERNELS.
      antialias: widen the kernel on the way down.
    """
    down, up = [], []
    offsets = np.full((len(kernels), max(sides) + 1), -1, np.int64)
    offset = 0
    for row, kernel in enumerate(kernels):
        for side in sides:
            offsets[row, side] = offset
            offset += side * size
            down.append(weights(size, side, kernel, antialias=antialias).ravel())
            up.append(weights(side, size, kernel, antialias=antialias).ravel())
    return Table(np.concatenate(down), np.concatenate(up), offsets)


def resize(
    image: np.ndarray, height: int, width: int, kernel: str, *, antialias: bool
) -> np.ndarray:
    """Resamples a picture.

    Args:
      image: [h, w, 3], any numbers.
      height: of the result, at least 1.
      width: of the result, at least 1.
      kernel: a key of KERNELS.
      antialias: widen the kernel when the picture gets smaller.

    Returns:
      float32 [height, width, 3], not clipped.
    """
    rows = weights(image.shape[0], height, kernel, antialias=antialias)
    columns = weights(image.shape[1], width, kernel, antialias=antialias)
    return np.einsum(
        "oh,hwc,pw->opc", rows, image.astype(np.float32), columns, optimize=True
    )
