"""What happens to a picture before the network sees it: one recipe per name.

A recipe maps (image uint8 [112, 112, 3], seed int64 [2], params) to an image of the
same form. All its draws come from the seed, so a picture is the same whatever stands
beside it in the batch. Every recipe is one pass of cheap steps behind conditions: only
what was drawn is worked out.
"""

import functools
import math
from collections.abc import Callable

import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines import photometric, resample

SIDE = 112  # of every picture that the networks see
RESCALE_KERNELS = ("nearest", "bilinear", "area", "bicubic", "lanczos")
_CROP_ATTEMPTS = 10  # as in torchvision's RandomResizedCrop


def clean(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Mirrors the picture with `flip_probability`, no more."""
    draws = tf.random.stateless_uniform([1], seed)
    return _sometimes(draws[0], params.flip_probability, _flip, image)


def adaface(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """AdaFace's own augmentation: crop, down-up-sampling, photometric, each sometimes.

    References:
      Kim, Jain, Liu, AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022,
      section 4.1.
    """
    # Differs from AdaFace/dataset/augmenter.py: OpenCV's cubic has a = -3/4 and its
    # Lanczos four lobes; ours are those of `resample.KERNELS`, a = -1/2 and three.
    draws = tf.random.stateless_uniform([13 + 2 * _CROP_ATTEMPTS], seed)
    image = _sometimes(draws[0], params.flip_probability, _flip, image)
    image = _sometimes(
        draws[1],
        params.crop_probability,
        lambda picture: _crop(picture, draws[11:], params),
        image,
    )
    image = _sometimes(
        draws[2],
        params.rescale_probability,
        lambda picture: _rescale(picture, draws[3:6], params),
        image,
    )
    return _sometimes(
        draws[6],
        params.photometric_probability,
        lambda picture: photometric.jitter(
            picture, draws[7:11], strength=params.photometric_strength
        ),
        image,
    )


def resolution(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Goes down to a side drawn from `sides` and up again, sometimes through JPEG.

    References:
      Knoche et al., Octuplet Loss: Make Face Recognition Robust to Image Resolution,
      FG 2023, section 3.
    """
    draws = tf.random.stateless_uniform([5], seed)
    sides = tuple(params.sides)
    image = _sometimes(draws[0], params.flip_probability, _flip, image)
    row = tf.cast(draws[2] * len(sides), tf.int32)

    def shrink(picture: tf.Tensor) -> tf.Tensor:
        side = tf.constant(sides)[row]
        down, up = _matrices(sides, ("bicubic",), 0, side, antialias=params.antialias)
        small = _shrink(down, tf.cast(picture, tf.float32))
        small = _sometimes(
            draws[3],
            params.jpeg_probability,
            lambda small: _jpeg(small, draws[4], params.jpeg_quality),
            small,
        )
        return _truncated(_grow(up, small))

    return _sometimes(draws[1], params.probability, shrink, image)


Recipe = Callable[[tf.Tensor, tf.Tensor, ConfigDict], tf.Tensor]
RECIPES: dict[str, Recipe] = {
    "clean": clean,
    "adaface": adaface,
    "resolution": resolution,
}


def down_up(image: tf.Tensor, *, side: int, antialias: bool) -> tf.Tensor:
    """Goes down to one side and up again, bicubic: the picture of an evaluation.

    The small picture is neither clipped nor rounded; the large one is clipped and
    truncated, as in the published Octuplet code.

    Args:
      image: uint8 [112, 112, 3].
      side: in pixels, 1 .. 112; at 112 the picture is left alone.
      antialias: in the down-sampling.

    Returns:
      uint8 [112, 112, 3].

    Raises:
      ValueError: the side is out of range.
    """
    if not 1 <= side <= SIDE:
        raise ValueError(f"side: got {side}, must be in 1 .. {SIDE}")
    if side == SIDE:
        return image
    down = tf.constant(resample.weights(SIDE, side, "bicubic", antialias=antialias))
    up = tf.constant(resample.weights(side, SIDE, "bicubic", antialias=antialias))
    return _truncated(_grow(up, _shrink(down, tf.cast(image, tf.float32))))


def _sometimes(
    draw: tf.Tensor,
    probability: float,
    change: Callable[[tf.Tensor], tf.Tensor],
    image: tf.Tensor,
) -> tf.Tensor:
    """Applies `change` where the draw, in [0, 1), is below the probability."""
    # Kept as one call: spread out in the graph, every operation of a branch that is
    # not taken is still visited, which costs more than the branch that is.
    whole = tf.function(
        change, autograph=False, experimental_attributes={"_noinline": True}
    )
    changed = tf.cond(draw < probability, lambda: whole(image), lambda: image)
    return tf.ensure_shape(changed, image.shape)


def _flip(image: tf.Tensor) -> tf.Tensor:
    return tf.reverse(image, [1])


def _crop(image: tf.Tensor, draws: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Keeps a random rectangle where it is, the rest turns black."""
    tries = tf.reshape(draws[2:], [_CROP_ATTEMPTS, 2])
    low, high = params.crop_area
    area = (low + (high - low) * tries[:, 0]) * SIDE * SIDE
    narrow, wide = (math.log(aspect) for aspect in params.crop_aspect)
    aspect = tf.exp(narrow + (wide - narrow) * tries[:, 1])
    widths = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
    heights = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
    fits = (widths >= 1) & (widths <= SIDE) & (heights >= 1) & (heights <= SIDE)
    first = tf.argmax(fits, output_type=tf.int32)
    # Where none of the tries fits, the picture stays whole, as in torchvision.
    width = tf.where(fits[first], widths[first], SIDE)
    height = tf.where(fits[first], heights[first], SIDE)
    top = tf.cast(draws[0] * tf.cast(SIDE - height + 1, tf.float32), tf.int32)
    left = tf.cast(draws[1] * tf.cast(SIDE - width + 1, tf.float32), tf.int32)
    # Rows of bytes: with the colours as an axis of their own it takes twice as long.
    rows = tf.reshape(image, [SIDE, 3 * SIDE])
    kept = rows[top : top + height, 3 * left : 3 * (left + width)]
    beside = 3 * (SIDE - left - width)
    rows = tf.pad(kept, [[top, SIDE - top - height], [3 * left, beside]])
    return tf.reshape(rows, [SIDE, SIDE, 3])


def _rescale(image: tf.Tensor, draws: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Down to a random share of the side and up again, each by a random kernel."""
    low, high = params.rescale_side
    smallest, largest = max(1, int(low * SIDE)), max(1, int(high * SIDE))
    side = tf.cast((low + (high - low) * draws[0]) * SIDE, tf.int32)
    side = tf.clip_by_value(side, smallest, largest)
    sides = tuple(range(smallest, largest + 1))
    kernels = tf.cast(draws[1:3] * len(RESCALE_KERNELS), tf.int32)
    # OpenCV, which the reference calls, has no anti-aliasing but in its area kernel.
    # Differs from AdaFace/dataset/augmenter.py: there the small picture is rounded to
    # bytes before it is enlarged.
    down, _ = _matrices(sides, RESCALE_KERNELS, kernels[0], side, antialias=False)
    _, up = _matrices(sides, RESCALE_KERNELS, kernels[1], side, antialias=False)
    large = _grow(up, _shrink(down, tf.cast(image, tf.float32)))
    return tf.cast(tf.clip_by_value(large, 0.0, 255.0) + 0.5, tf.uint8)


def _matrices(
    sides: tuple[int, ...],
    kernels: tuple[str, ...],
    kernel: tf.Tensor | int,
    side: tf.Tensor,
    *,
    antialias: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks up the drawn matrices: down [side, 112] and up [112, side]."""
    down, up, offsets = _table(sides, kernels, antialias)
    begin = [offsets[kernel, side]]
    count = [side * SIDE]
    return (
        tf.reshape(tf.slice(down, begin, count), [side, SIDE]),
        tf.reshape(tf.slice(up, begin, count), [SIDE, side]),
    )


@functools.lru_cache(maxsize=16)
def _table(
    sides: tuple[int, ...], kernels: tuple[str, ...], antialias: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The table of `resample` as tensors outside of any graph: captured, not copied."""
    found = resample.table(SIDE, sides, kernels, antialias=antialias)
    with tf.init_scope():
        return (
            tf.constant(found.down),
            tf.constant(found.up),
            tf.constant(found.offsets),
        )


def _shrink(down: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Resamples float [m, m, 3] with a matrix [n, m]; rows first, while n < m.

    The colours are moved between the two products, and that costs as much as a
    product: so it is done where the picture is smallest, here and in `_grow`.
    """
    size, new = tf.shape(image)[0], tf.shape(down)[0]
    rows = tf.matmul(down, tf.reshape(image, [size, 3 * size]))
    planes = tf.reshape(_turned(tf.reshape(rows, [new * size, 3])), [3 * new, size])
    small = tf.matmul(planes, down, transpose_b=True)
    return tf.reshape(_turned(tf.reshape(small, [3, new * new])), [new, new, 3])


def _grow(up: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Resamples float [n, n, 3] with a matrix [m, n]; columns first, while n < m."""
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


def _truncated(image: tf.Tensor) -> tf.Tensor:
    """Float to uint8 as the published code does: clip and cut off the fraction."""
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def _jpeg(small: tf.Tensor, draw: tf.Tensor, quality: tuple[int, int]) -> tf.Tensor:
    """Sends a small float picture through JPEG of a quality between the two."""
    low, high = quality
    drawn = low + tf.cast(draw * (high - low + 1), tf.int32)
    packed = tf.raw_ops.EncodeJpegVariableQuality(
        images=_truncated(small), quality=drawn
    )
    return tf.cast(tf.io.decode_jpeg(packed, channels=3), tf.float32)
