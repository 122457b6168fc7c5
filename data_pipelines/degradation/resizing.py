"""Other sizes of square pictures, in TensorFlow: by matrices, and by its own kernels.

The matrices are those of `resample`, exact for every kernel, with anti-aliasing or
without. TensorFlow's kernels are faster where the smaller picture is not very small.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from qface_jax.data_pipelines.degradation import resample
from qface_jax.data_pipelines.degradation.recipe import SIDE


class Table:
    """The matrices of `resample.table` as tensors, to look up the drawn ones."""

    def __init__(self, size: int, matrices: resample.Table):
        """Takes the matrices from `size` px to every side and back.

        Args:
          size: side of the large pictures.
          matrices: of `resample.table`, for that size.
        """
        self._size = size
        # Outside of any graph: captured there, not copied.
        with tf.init_scope():
            self._down = tf.constant(matrices.down)
            self._up = tf.constant(matrices.up)
            self._offsets = tf.constant(matrices.offsets)

    def down(self, kernel: tf.Tensor | int, side: tf.Tensor) -> tf.Tensor:
        """Returns the matrix of one kernel and side, float32 [side, size]."""
        return tf.reshape(self._part(self._down, kernel, side), [side, self._size])

    def up(self, kernel: tf.Tensor | int, side: tf.Tensor) -> tf.Tensor:
        """Returns the matrix of one kernel and side, float32 [size, side]."""
        return tf.reshape(self._part(self._up, kernel, side), [self._size, side])

    def _part(self, flat: tf.Tensor, kernel: tf.Tensor | int, side: tf.Tensor):
        return tf.slice(flat, [self._offsets[kernel, side]], [side * self._size])


@functools.lru_cache(maxsize=16)
def table(
    size: int, sides: tuple[int, ...], kernels: tuple[str, ...], *, antialias: bool
) -> Table:
    """Returns the matrices from `size` px to every side and back, for every kernel.

    Args: as of `resample.table`.
    """
    return Table(size, resample.table(size, sides, kernels, antialias=antialias))


def shrink(down: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Resamples a picture to a smaller one; rows first, while n < m.

    The colours are moved between the two products, and that costs as much as a
    product: so it is done where the picture is smallest, here and in `grow`.

    Args:
      down: float32 [n, m].
      image: float32 [m, m, 3].

    Returns:
      float32 [n, n, 3].
    """
    size, new = tf.shape(image)[0], tf.shape(down)[0]
    rows = tf.matmul(down, tf.reshape(image, [size, 3 * size]))
    planes = tf.reshape(_turned(tf.reshape(rows, [new * size, 3])), [3 * new, size])
    small = tf.matmul(planes, down, transpose_b=True)
    return tf.reshape(_turned(tf.reshape(small, [3, new * new])), [new, new, 3])


def grow(up: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Resamples a picture to a larger one; columns first, while n < m.

    Args:
      up: float32 [m, n].
      image: float32 [n, n, 3].

    Returns:
      float32 [m, m, 3].
    """
    size, new = tf.shape(image)[0], tf.shape(up)[0]
    planes = _turned(tf.reshape(image, [size * size, 3]))
    columns = tf.matmul(tf.reshape(planes, [3 * size, size]), up, transpose_b=True)
    columns = _turned(tf.reshape(columns, [3, size * new]))
    large = tf.matmul(up, tf.reshape(columns, [size, 3 * new]))
    return tf.reshape(large, [new, new, 3])


def _turned(matrix: tf.Tensor) -> tf.Tensor:
    """Transposes float32 [n, m].

    As whole numbers: TensorFlow hands the transposition of floats to oneDNN, whose
    set-up takes 75 us, half as long as decoding the picture.
    """
    return tf.bitcast(tf.transpose(tf.bitcast(matrix, tf.uint32)), tf.float32)


def plain_shrink(
    image: tf.Tensor, side: tf.Tensor, kernel: str, sides: tuple[int, ...]
) -> tf.Tensor:
    """Resamples a picture to a smaller one, anti-aliased only by the kernel "area".

    Within a thousandth of the weights of `resample`.

    Args:
      image: float32 [112, 112, 3].
      side: of the small picture, int32 [].
      kernel: a key of `resample.KERNELS`.
      sides: all that `side` may be.

    Returns:
      float32 [side, side, 3].
    """
    if kernel == "nearest":
        taken = _nearest(SIDE, side)
        return tf.gather(tf.gather(image, taken), taken, axis=1)
    if kernel == "lanczos":
        matrices = table(SIDE, sides, (kernel,), antialias=False)
        return shrink(matrices.down(0, side), image)
    return _KERNELS[kernel](images=image[tf.newaxis], size=[side, side])[0]


def plain_grow(image: tf.Tensor, kernel: str, sides: tuple[int, ...]) -> tf.Tensor:
    """Resamples a picture to one of 112 px.

    Within a thousandth of the weights of `resample`.

    Args:
      image: float32 [n, n, 3].
      kernel: a key of `resample.KERNELS`.
      sides: all that n may be, 1 .. 112.

    Returns:
      float32 [112, 112, 3].
    """
    side = tf.shape(image)[0]
    if kernel in ("nearest", "area"):  # a pixel lies in one old one
        taken = _nearest(side, SIDE)
        return tf.gather(tf.gather(image, taken, axis=1), taken)
    if kernel == "lanczos":
        matrices = table(SIDE, sides, (kernel,), antialias=False)
        return grow(matrices.up(0, side), image)
    return _KERNELS[kernel](images=image[tf.newaxis], size=[SIDE, SIDE])[0]


def _nearest(size: tf.Tensor | int, new: tf.Tensor | int) -> tf.Tensor:
    """Which of `size` pixels each of `new` ones takes, as in `resample.weights`."""
    return (2 * tf.range(new) + 1) * size // (2 * new)


_KERNELS: dict[str, Callable[..., tf.Tensor]] = {
    "area": tf.raw_ops.ResizeArea,
    "bicubic": functools.partial(tf.raw_ops.ResizeBicubic, half_pixel_centers=True),
    "bilinear": functools.partial(tf.raw_ops.ResizeBilinear, half_pixel_centers=True),
}
