"""Training pictures of the recognizability objective: mirrored, rotated, rescaled."""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import DRAWS_OF_SHRINK, Recipe
from qface_jax.options import DEGREES, JPEG_QUALITIES, SHARE, SIDES, Option


def draw(image: Any, seed: Any, params: Any) -> Any:
    """Mirrors, rotates and rescales a picture, each sometimes.

    Rescaling goes through a side drawn from `rescale_sides` and up again, bicubic both
    ways. The published sets are of low resolution already; for sharp ones there is a
    second rescaling, through `low_sides`, that is off by default.
    """
    from qface_jax.data_pipelines.degradation import geometry, steps

    draws = steps.uniform(5 + 2 * DRAWS_OF_SHRINK, seed)
    rescale_draws = draws[5 : 5 + DRAWS_OF_SHRINK]
    low_draws = draws[5 + DRAWS_OF_SHRINK :]
    image = steps.sometimes(draws[0], params.flip_probability, steps.flip, image)
    image = steps.sometimes(
        draws[1],
        params.rotation_probability,
        lambda picture: geometry.rotate(
            picture, (2 * draws[2] - 1) * params.rotation_degrees
        ),
        image,
    )
    image = steps.sometimes(
        draws[3],
        params.rescale_probability,
        lambda picture: steps.shrink(
            picture, rescale_draws, params.rescale_sides, antialias=params.antialias
        ),
        image,
    )
    return steps.sometimes(
        draws[4],
        params.low_probability,
        lambda picture: steps.shrink(
            picture,
            low_draws,
            params.low_sides,
            antialias=params.antialias,
            jpeg_probability=params.jpeg_probability,
            jpeg_quality=params.jpeg_quality,
        ),
        image,
    )


def draw_on_device(images: Any, keys: Any, params: Any) -> Any:
    """`draw` of a batch, in JAX."""
    from qface_jax.data_pipelines.device_degradation import geometry, steps

    draws = steps.uniform(5 + 2 * DRAWS_OF_SHRINK, keys)
    rescale_draws = draws[:, 5 : 5 + DRAWS_OF_SHRINK]
    low_draws = draws[:, 5 + DRAWS_OF_SHRINK :]
    planes = steps.planes(images)
    planes = steps.sometimes(
        draws[:, 0], params.flip_probability, geometry.flip, planes
    )
    planes = steps.sometimes(
        draws[:, 1],
        params.rotation_probability,
        lambda planes: geometry.rotate(
            planes, (2 * draws[:, 2] - 1) * params.rotation_degrees
        ),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 3],
        params.rescale_probability,
        lambda planes: steps.shrink(
            planes, rescale_draws, params.rescale_sides, antialias=params.antialias
        ),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 4],
        params.low_probability,
        lambda planes: steps.shrink(
            planes,
            low_draws,
            params.low_sides,
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
        # How often each step is taken was never published.
        "flip_probability": Option(0.5, SHARE, "of being mirrored, left and right"),
        "rotation_probability": Option(0.5, SHARE, "of being rotated"),
        "rotation_degrees": Option(
            10.0, DEGREES, "at most, either way; corners turn black"
        ),
        "rescale_probability": Option(0.5, SHARE, "of going down and up again"),
        "rescale_sides": Option((64, 100), SIDES, "px; one is drawn per image"),
        "antialias": Option(True, None, "in the down-sampling"),
        # Beyond the paper, for training sets of sharp pictures.
        "low_probability": Option(0.0, SHARE, "of going through low_sides too"),
        "low_sides": Option((7, 14, 28), SIDES, "px; one is drawn per image"),
        "jpeg_probability": Option(
            0.0, SHARE, "of a picture that goes through low_sides"
        ),
        "jpeg_quality": Option(
            (60, 95), JPEG_QUALITIES, "drawn, applied at the small size"
        ),
    },
    draw_on_device=draw_on_device,
    reference="Recognizability Embedding Enhancement for Very Low-Resolution Face "
    "Recognition and Quality Estimation, CVPR 2023, supplement, section B. How often "
    "each step is taken was not published",
)
