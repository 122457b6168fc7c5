"""What happens to a picture before the network sees it: one recipe per name.

A recipe maps (image uint8 [112, 112, 3], seed int64 [2], params) to an image of the
same form. All its draws come from the seed, so a picture is the same whatever stands
beside it in the batch. Every recipe is one pass of cheap steps behind conditions: only
what was drawn is worked out.
"""

from collections.abc import Callable

import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation import (
    geometry,
    photometric,
    recognizability_recipes,
    resample,
)
from qface_jax.data_pipelines.degradation.drawn_steps import (
    DRAWS_OF_SHRINK,
    SIDE,
    flip,
    jpeg,
    rounded,
    shrink,
    sometimes,
    truncated,
)

RESCALE_KERNELS = ("nearest", "bilinear", "area", "bicubic", "lanczos")


def clean(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Mirrors the picture with `flip_probability`, no more."""
    draws = tf.random.stateless_uniform([1], seed)
    return sometimes(draws[0], params.flip_probability, flip, image)


def adaface(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """AdaFace's own augmentation: crop, down-up-sampling, photometric, each sometimes.

    References:
      Kim, Jain, Liu, AdaFace: Quality Adaptive Margin for Face Recognition, CVPR 2022,
      section 4.1.
    """
    # Differs from AdaFace/dataset/augmenter.py: OpenCV's cubic has a = -3/4 and its
    # Lanczos four lobes; ours are those of `resample.KERNELS`, a = -1/2 and three.
    draws = tf.random.stateless_uniform([11 + geometry.BOX_DRAWS], seed)
    image = sometimes(draws[0], params.flip_probability, flip, image)
    image = sometimes(
        draws[1],
        params.crop_probability,
        lambda picture: geometry.keep_box(picture, _box(draws[11:], params)),
        image,
    )
    image = sometimes(
        draws[2],
        params.rescale_probability,
        lambda picture: _rescale(picture, draws[3:6], params),
        image,
    )
    return sometimes(
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
    draws = tf.random.stateless_uniform([2 + DRAWS_OF_SHRINK], seed)
    image = sometimes(draws[0], params.flip_probability, flip, image)
    return sometimes(
        draws[1],
        params.probability,
        lambda picture: shrink(picture, draws[2:], params),
        image,
    )


def qgface(image: tf.Tensor, seed: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """QGFace's view q: fewer pixels and JPEG, then crop, colour, rotation and flip.

    References:
      QGFace: Quality-Guided Joint Training For Mixed-Quality Face Recognition,
      section III-B. How often each step is taken was not published.
    """
    draws = tf.random.stateless_uniform([15 + geometry.BOX_DRAWS], seed)
    image = sometimes(
        draws[0],
        params.rescale_probability,
        lambda picture: _rescale_with_jpeg(picture, draws[1:6], params),
        image,
    )
    image = sometimes(
        draws[6],
        params.crop_probability,
        lambda picture: geometry.enlarge_box(picture, _box(draws[15:], params)),
        image,
    )
    image = sometimes(
        draws[7],
        params.photometric_probability,
        lambda picture: photometric.jitter(
            picture, draws[8:12], strength=params.photometric_strength
        ),
        image,
    )
    image = sometimes(
        draws[12],
        params.rotation_probability,
        lambda picture: geometry.rotate(
            picture, (2 * draws[13] - 1) * params.rotation_degrees
        ),
        image,
    )
    return sometimes(draws[14], params.flip_probability, flip, image)


Recipe = Callable[[tf.Tensor, tf.Tensor, ConfigDict], tf.Tensor]
RECIPES: dict[str, Recipe] = {
    "clean": clean,
    "adaface": adaface,
    "resolution": resolution,
    "qgface": qgface,
    "recognizability": recognizability_recipes.recognizability,
    "unrecognizable": recognizability_recipes.unrecognizable,
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
    return truncated(
        geometry.grow(up, geometry.shrink(down, tf.cast(image, tf.float32)))
    )


def _box(draws: tf.Tensor, params: ConfigDict) -> geometry.Box:
    return geometry.draw_box(
        draws, SIDE, area=params.crop_area, aspect=params.crop_aspect
    )


def _rescale(image: tf.Tensor, draws: tf.Tensor, params: ConfigDict) -> tf.Tensor:
    """Down to a random share of the side and up again, each by a random kernel."""
    # OpenCV, which the reference calls, has no anti-aliasing but in its area kernel.
    # Differs from AdaFace/dataset/augmenter.py: there the small picture is rounded to
    # bytes before it is enlarged.
    down, up = _drawn_matrices(draws, params, antialias=False)
    small = geometry.shrink(down, tf.cast(image, tf.float32))
    return rounded(geometry.grow(up, small))


def _rescale_with_jpeg(
    image: tf.Tensor, draws: tf.Tensor, params: ConfigDict
) -> tf.Tensor:
    """Down and up again as Pillow does it, sometimes through JPEG in between."""
    # Differs from Pillow: its box kernel takes whole pixels, ours also parts of them;
    # the two are one where 112 is a multiple of the side.
    down, up = _drawn_matrices(draws[:3], params, antialias=True)
    small = sometimes(
        draws[3],
        params.jpeg_probability,
        lambda small: jpeg(small, draws[4], params.jpeg_quality, "INTEGER_ACCURATE"),
        rounded(geometry.shrink(down, tf.cast(image, tf.float32))),
    )
    return rounded(geometry.grow(up, tf.cast(small, tf.float32)))


def _drawn_matrices(
    draws: tf.Tensor, params: ConfigDict, *, antialias: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a side within `rescale_side`, and a kernel for each way."""
    low, high = params.rescale_side
    smallest, largest = max(1, int(low * SIDE)), max(1, int(high * SIDE))
    side = tf.cast((low + (high - low) * draws[0]) * SIDE, tf.int32)
    side = tf.clip_by_value(side, smallest, largest)
    kernels = tf.cast(draws[1:3] * len(RESCALE_KERNELS), tf.int32)
    table = geometry.table(
        SIDE, tuple(range(smallest, largest + 1)), RESCALE_KERNELS, antialias=antialias
    )
    return table.down(kernels[0], side), table.up(kernels[1], side)
