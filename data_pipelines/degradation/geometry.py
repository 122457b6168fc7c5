"""Where the pixels of a square picture come from: resampling, crops, rotation."""

import functools
import math

import tensorflow as tf

from qface_jax.data_pipelines.degradation import resample

_ATTEMPTS = 10  # at a box that fits, as in torchvision's RandomResizedCrop
BOX_DRAWS = 2 + 2 * _ATTEMPTS

Box = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


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


def draw_box(
    draws: tf.Tensor,
    side: int,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Box:
    """Draws a box inside of a square picture, as torchvision's RandomResizedCrop does.

    Its area is uniform in `area`, the logarithm of its aspect in that of `aspect`; of
    ten such boxes it is the first that fits.

    Args:
      draws: float32 [BOX_DRAWS] in [0, 1).
      side: of the picture, in pixels.
      area: smallest and largest share of the picture, within (0, 1].
      aspect: smallest and largest width / height, above 0.

    Returns:
      Top, left, height and width in pixels, int32 [] each.
    """
    tries = tf.reshape(draws[2:], [_ATTEMPTS, 2])
    low, high = area
    areas = (low + (high - low) * tries[:, 0]) * side * side
    narrow, wide = (math.log(bound) for bound in aspect)
    aspects = tf.exp(narrow + (wide - narrow) * tries[:, 1])
    widths = tf.cast(tf.round(tf.sqrt(areas * aspects)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(areas / aspects)), tf.int32)
    fits = (widths >= 1) & (widths <= side) & (heights >= 1) & (heights <= side)
    first = tf.argmax(fits, output_type=tf.int32)
    # Differs from torchvision/transforms/transforms.py where none of them fits: the
    # picture stays whole, there only if `aspect` allows a square.
    width = tf.where(fits[first], widths[first], side)
    height = tf.where(fits[first], heights[first], side)
    top = tf.cast(draws[0] * tf.cast(side - height + 1, tf.float32), tf.int32)
    left = tf.cast(draws[1] * tf.cast(side - width + 1, tf.float32), tf.int32)
    return top, left, height, width


def keep_box(image: tf.Tensor, box: Box) -> tf.Tensor:
    """Keeps a box where it is; the rest of the picture turns black.

    Args:
      image: uint8 [side, side, 3].
      box: of `draw_box`.

    Returns:
      uint8 [side, side, 3].
    """
    top, left, height, width = box
    side = image.shape[0]
    # Rows of bytes: with the colours as an axis of their own it takes twice as long.
    rows = tf.reshape(image, [side, 3 * side])
    kept = rows[top : top + height, 3 * left : 3 * (left + width)]
    beside = 3 * (side - left - width)
    rows = tf.pad(kept, [[top, side - top - height], [3 * left, beside]])
    return tf.reshape(rows, [side, side, 3])


def enlarge_box(image: tf.Tensor, box: Box) -> tf.Tensor:
    """Lets a box fill the whole picture, bilinear, as torchvision's resized_crop does.

    Args:
      image: uint8 [side, side, 3].
      box: of `draw_box`.

    Returns:
      uint8 [side, side, 3].
    """
    top, left, height, width = box
    # As floats: the kernel reads bytes more slowly than both together take.
    kept = tf.cast(image[top : top + height, left : left + width], tf.float32)
    # A box is never larger than the picture: there is nothing to anti-alias.
    large = tf.raw_ops.ResizeBilinear(
        images=kept[tf.newaxis], size=image.shape[:2], half_pixel_centers=True
    )
    return tf.cast(large[0] + 0.5, tf.uint8)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotates a picture about its centre, bilinear; what comes in is black.

    Args:
      image: uint8 [side, side, 3].
      degrees: float32 [], counter-clockwise.

    Returns:
      uint8 [side, side, 3].
    """
    # Differs from torchvision/transforms/transforms.py: RandomRotation takes the
    # nearest pixel unless told otherwise, which tears edges apart. The inside is that
    # of Pillow's bilinear rotation; there the outermost pixels end at once, here they
    # fade to black over one pixel.
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    middle = (image.shape[0] - 1) / 2
    shift_x = middle - middle * (cos - sin)
    shift_y = middle - middle * (cos + sin)
    zero = tf.zeros([])
    # Pixel (x, y) comes from (a x + b y + c, d x + e y + f).
    source = [cos, -sin, shift_x, sin, cos, shift_y, zero, zero]
    rotated = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack(source)[tf.newaxis],
        output_shape=image.shape[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return rotated[0]
