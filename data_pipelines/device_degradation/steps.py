"""Steps that the device forms of the recipes are made of, for whole batches.

They are those of `degradation.steps` and take the same draws. Pictures are planes,
float32 [b, 3, 112, 112], whole numbers 0 .. 255 between any two steps. A step is worked
out for every picture and taken where it was drawn.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from qface_jax.data_pipelines.degradation.recipe import RESCALE_KERNELS, SIDE
from qface_jax.data_pipelines.device_degradation import geometry, jpeg, resampling
from qface_jax.data_pipelines.device_degradation.resampling import Planes

Draw = Float[Array, " b"]


def uniform(count: int, keys: jax.Array) -> Float[Array, "b n"]:
    """Returns the draws of each picture, float32 [b, count] in [0, 1), keys [b]."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)


def planes(images: UInt8[Array, "b h w 3"]) -> Planes:
    """Returns pictures as a plane of each colour, float32 [b, 3, h, w]."""
    return jnp.moveaxis(images, 3, 1).astype(jnp.float32)


def pictures(planes: Planes) -> UInt8[Array, "b h w 3"]:
    """Returns planes of whole numbers as pictures, uint8 [b, h, w, 3]."""
    return jnp.moveaxis(planes, 1, 3).astype(jnp.uint8)


def pairs(degraded: Planes, other: Planes) -> UInt8[Array, "b 2 h w 3"]:
    """Returns two views of each picture, uint8 [b, 2, h, w, 3], the degraded first."""
    return jnp.stack([pictures(degraded), pictures(other)], axis=1)


def between(draw: Draw, bounds: tuple[float, float]) -> Draw:
    """Returns low + (high - low) * draw."""
    low, high = bounds
    return low + (high - low) * draw


def sometimes(
    draw: Draw,
    probability: float,
    change: Callable[[Planes], Planes],
    before: Planes,
) -> Planes:
    """Applies `change` to the pictures whose draw is below the probability.

    Args:
      draw: float32 [b] in [0, 1).
      probability: 0 .. 1.
      change: takes pictures to others of their shape.
      before: float32 [b, 3, h, w].

    Returns:
      As `before`.
    """
    if probability in (0, 1):
        return change(before) if probability else before
    return jnp.where((draw < probability)[:, None, None, None], change(before), before)


def shrink(
    before: Planes,
    draws: Float[Array, "b 3"],
    sides: tuple[int, ...],
    *,
    antialias: bool,
    jpeg_probability: float = 0.0,
    jpeg_quality: tuple[int, int] = (100, 100),
) -> Planes:
    """Goes down to a side drawn from `sides` and up again, sometimes through JPEG.

    Differs from `degradation.steps`: JPEG is decoded by libjpeg's accurate transform,
    there by TensorFlow's default, the fast one.

    Args:
      before: float32 [b, 3, 112, 112].
      draws: float32 [b, DRAWS_OF_SHRINK] in [0, 1): the side, whether through JPEG, and
        its quality.
      sides: in pixels, 1 .. 112, all equally likely.
      antialias: in the down-sampling.
      jpeg_probability: of going through JPEG at the small size.
      jpeg_quality: lowest and highest, within 1 .. 100.

    Returns:
      As `before`.
    """
    sides = tuple(sides)
    row = (draws[:, 0] * len(sides)).astype(jnp.int32)
    side = jnp.array(sides, jnp.int32)[row]
    down, up = matrices_there_and_back(
        side,
        max(sides),
        (("bicubic",), jnp.zeros_like(side)),
        (("bicubic",), jnp.zeros_like(side)),
        antialias=antialias,
        for_jpeg=jpeg_probability > 0,
    )
    if not jpeg_probability:
        whole = resampling.product(up, down)
        return truncated(resampling.apply(whole, whole, before))
    small = sometimes(
        draws[:, 1],
        jpeg_probability,
        lambda small: through_jpeg(truncated(small), side, draws[:, 2], jpeg_quality),
        resampling.apply(down, down, before),
    )
    return truncated(resampling.apply(up, up, small))


def rescale(
    before: Planes, draws: Float[Array, "b 3"], share: tuple[float, float]
) -> Planes:
    """Goes down to a random share of the side and up, each way by a random kernel.

    Args:
      before: float32 [b, 3, 112, 112].
      draws: float32 [b, 3] in [0, 1): the side, and the kernel of each way.
      share: of 112 px, lowest and highest.

    Returns:
      As `before`.
    """
    _, down, up = _drawn_matrices(draws, share, antialias=False, for_jpeg=False)
    whole = resampling.product(up, down)
    return rounded(resampling.apply(whole, whole, before))


def rescale_with_jpeg(
    before: Planes, draws: Float[Array, "b 5"], params: Any
) -> Planes:
    """Goes down and up again as Pillow does it, sometimes through JPEG in between.

    Args:
      before: float32 [b, 3, 112, 112].
      draws: float32 [b, 5] in [0, 1): those of `rescale`, whether through JPEG, and its
        quality.
      params: `rescale_side`, `jpeg_probability`, `jpeg_quality`.

    Returns:
      As `before`.
    """
    side, down, up = _drawn_matrices(
        draws, params.rescale_side, antialias=True, for_jpeg=True
    )
    small = sometimes(
        draws[:, 3],
        params.jpeg_probability,
        lambda small: through_jpeg(small, side, draws[:, 4], params.jpeg_quality),
        rounded(resampling.apply(down, down, before)),
    )
    return rounded(resampling.apply(up, up, small))


def _drawn_matrices(draws, share, *, antialias, for_jpeg):
    """Draws a side and a kernel for each way: the side, the matrices down and up."""
    low, high = share
    smallest, largest = max(1, int(low * SIDE)), max(1, int(high * SIDE))
    side = (between(draws[:, 0], share) * SIDE).astype(jnp.int32)
    side = jnp.clip(side, smallest, largest)
    kernels = (draws[:, 1:3] * len(RESCALE_KERNELS)).astype(jnp.int32)
    down, up = matrices_there_and_back(
        side,
        largest,
        (RESCALE_KERNELS, kernels[:, 0]),
        (RESCALE_KERNELS, kernels[:, 1]),
        antialias=antialias,
        for_jpeg=for_jpeg,
    )
    return side, down, up


def matrices_there_and_back(
    side: Int[Array, " b"],
    largest: int,
    there: tuple[tuple[str, ...], Int[Array, " b"]],
    back: tuple[tuple[str, ...], Int[Array, " b"]],
    *,
    antialias: bool,
    for_jpeg: bool,
) -> tuple[resampling.Matrices, resampling.Matrices]:
    """Returns the matrices from 112 px to each picture's side and back.

    Args:
      side: in pixels, int32 [b], 1 .. largest.
      largest: of the sides, 1 .. 112.
      there: kernels, and which of them each picture takes, int32 [b].
      back: likewise.
      antialias: in the down-sampling.
      for_jpeg: whether the small pictures are to lie in a multiple of JPEG's blocks.

    Returns:
      float32 [b, c, 112] and [b, 112, c], c at least `largest`.
    """
    size = jpeg.canvas(largest) if for_jpeg else largest
    down = resampling.matrices(SIDE, side, (size, SIDE), *there, antialias=antialias)
    up = resampling.matrices(side, SIDE, (SIDE, size), *back, antialias=antialias)
    return down, up


def through_jpeg(
    small: Planes, side: Int[Array, " b"], draw: Draw, quality: tuple[int, int]
) -> Planes:
    """Sends small pictures through JPEG.

    Args:
      small: float32 [b, 3, c, c], see `jpeg.through`.
      side: of each, int32 [b].
      draw: float32 [b] in [0, 1): where between the two qualities.
      quality: lowest and highest, within 1 .. 100.

    Returns:
      As `small`.
    """
    low, high = quality
    drawn = low + (draw * (high - low + 1)).astype(jnp.int32)
    return jpeg.through(small, side, drawn)


def crop_box(draws: geometry.Draws, params: Any) -> geometry.Box:
    """Draws a box by `crop_area` and `crop_aspect`, see `geometry.draw_box`."""
    return geometry.draw_box(
        draws, SIDE, area=params.crop_area, aspect=params.crop_aspect
    )


def truncated(planes: Planes) -> Planes:
    """Returns whole numbers 0 .. 255: clipped, the fraction cut off."""
    return jnp.floor(jnp.clip(planes, 0.0, 255.0))


def rounded(planes: Planes) -> Planes:
    """Returns the nearest whole numbers 0 .. 255."""
    return jnp.floor(jnp.clip(planes, 0.0, 255.0) + 0.5)
