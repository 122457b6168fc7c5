"""Two views of a picture from one set of draws: as it is, and of fewer pixels."""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import DRAWS_OF_SHRINK, Recipe
from qface_jax.options import JPEG_QUALITIES, SHARE, SIDES, Option

_PHOTOMETRIC = 2  # draws: brightness and saturation


def draw(image: Any, seed: Any, params: Any) -> Any:
    """A picture at a side drawn from `sides`, and the same as it was before.

    Both are changed alike first: mirrored with `flip_probability`; brightness and
    saturation times factors within 1 - strength .. 1 + strength.
    """
    import tensorflow as tf

    from qface_jax.data_pipelines.degradation import photometric, steps

    draws = steps.uniform(1 + _PHOTOMETRIC + DRAWS_OF_SHRINK, seed)
    image = steps.sometimes(draws[0], params.flip_probability, steps.flip, image)
    image = photometric.brighten_and_saturate(
        image,
        draws[1 : 1 + _PHOTOMETRIC],
        strengths=(params.brightness, params.saturation),
    )
    low = steps.shrink(
        image,
        draws[1 + _PHOTOMETRIC :],
        params.sides,
        antialias=params.antialias,
        jpeg_probability=params.jpeg_probability,
        jpeg_quality=params.jpeg_quality,
    )
    return tf.stack([low, image])


def draw_on_device(images: Any, keys: Any, params: Any) -> Any:
    """`draw` of a batch, in JAX."""
    from qface_jax.data_pipelines.device_degradation import geometry, photometric, steps

    draws = steps.uniform(1 + _PHOTOMETRIC + DRAWS_OF_SHRINK, keys)
    planes = steps.planes(images)
    planes = steps.sometimes(
        draws[:, 0], params.flip_probability, geometry.flip, planes
    )
    planes = photometric.brighten_and_saturate(
        planes,
        draws[:, 1 : 1 + _PHOTOMETRIC],
        strengths=(params.brightness, params.saturation),
    )
    low = steps.shrink(
        planes,
        draws[:, 1 + _PHOTOMETRIC :],
        params.sides,
        antialias=params.antialias,
        jpeg_probability=params.jpeg_probability,
        jpeg_quality=params.jpeg_quality,
    )
    return steps.pairs(low, planes)


RECIPE = Recipe(
    draw,
    {
        "flip_probability": Option(
            0.5, SHARE, "this and the next two act on both views alike"
        ),
        "brightness": Option(0.2, SHARE, "factor within 1 - b .. 1 + b"),
        "saturation": Option(0.2, SHARE, "likewise"),
        "sides": Option((7, 14, 28), SIDES, "px; one is drawn per image"),
        "antialias": Option(True, None, "in the down-sampling"),
        "jpeg_probability": Option(0.0, SHARE, "of the degraded view"),
        "jpeg_quality": Option(
            (60, 95), JPEG_QUALITIES, "drawn, applied at the small size"
        ),
    },
    draw_on_device=draw_on_device,
    views=2,
    reference="Knoche et al., Octuplet Loss: Make Face Recognition Robust to Image "
    "Resolution, FG 2023, sections 3.3 and 4.1. The ranges of the factors were not "
    "published",
)
