"""Where the pixels of a square picture come from: crops and rotation."""

import math

import tensorflow as tf

from qface_jax.data_pipelines.degradation.recipe import BOX_ATTEMPTS

Box = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


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
    tries = tf.reshape(draws[2:], [BOX_ATTEMPTS, 2])
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
