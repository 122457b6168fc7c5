"""Fewer pixels: down to a side drawn from a list and up again."""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import DRAWS_OF_SHRINK, Recipe
from qface_jax.options import JPEG_QUALITIES, SHARE, SIDES, Option


def draw(image: Any, seed: Any, params: Any) -> Any:
    """Goes down to a side drawn from `sides` and up again, sometimes through JPEG."""
    from qface_jax.data_pipelines.degradation import steps

    draws = steps.uniform(2 + DRAWS_OF_SHRINK, seed)
    image = steps.sometimes(draws[0], params.flip_probability, steps.flip, image)
    return steps.sometimes(
        draws[1],
        params.probability,
        lambda picture: steps.shrink(
            picture,
            draws[2:],
            params.sides,
            antialias=params.antialias,
            jpeg_probability=params.jpeg_probability,
            jpeg_quality=params.jpeg_quality,
        ),
        image,
    )


def draw_on_device(images: Any, keys: Any, params: Any) -> Any:
    """`draw` of a batch, in JAX."""
    from qface_jax.data_pipelines.device_degradation import geometry, steps

    draws = steps.uniform(2 + DRAWS_OF_SHRINK, keys)
    planes = steps.planes(images)
    planes = steps.sometimes(
        draws[:, 0], params.flip_probability, geometry.flip, planes
    )
    planes = steps.sometimes(
        draws[:, 1],
        params.probability,
        lambda planes: steps.shrink(
            planes,
            draws[:, 2:],
            params.sides,
            antialias=params.antialias,
            jpeg_probability=params.jpeg_probability,
            jpeg_quality=params.jpeg_quality,
        ),
        planes,
    )
    return steps.pictures(planes)


RECIPE = Recipe(
    draw,
    {
        "flip_probability": Option(0.5, SHARE, "of being mirrored, left and right"),
        "probability": Option(0.5, SHARE, "of being degraded at all"),
        "sides": Option((7, 14, 28), SIDES, "px; one is drawn per image"),
        "antialias": Option(True, None, "in the down-sampling"),
        "jpeg_probability": Option(0.0, SHARE, "of a degraded picture"),
        "jpeg_quality": Option(
            (60, 95), JPEG_QUALITIES, "drawn, applied at the small size"
        ),
    },
    draw_on_device=draw_on_device,
    reference="Knoche et al., Octuplet Loss: Make Face Recognition Robust to Image "
    "Resolution, FG 2023, section 3",
)
