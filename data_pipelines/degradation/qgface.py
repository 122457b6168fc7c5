"""QGFace's view q: fewer pixels and JPEG, then crop, colour, rotation and flip."""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import BOX_DRAWS, Recipe
from qface_jax.options import (
    ASPECTS,
    DEGREES,
    JPEG_QUALITIES,
    SHARE,
    SHARES,
    Option,
)


def draw(image: Any, seed: Any, params: Any) -> Any:
    """Rescales, enlarges a box, changes colours, rotates, mirrors, each sometimes."""
    from qface_jax.data_pipelines.degradation import geometry, photometric, steps

    draws = steps.uniform(15 + BOX_DRAWS, seed)
    image = steps.sometimes(
        draws[0],
        params.rescale_probability,
        lambda picture: steps.rescale_with_jpeg(picture, draws[1:6], params),
        image,
    )
    image = steps.sometimes(
        draws[6],
        params.crop_probability,
        lambda picture: geometry.enlarge_box(
            picture, steps.crop_box(draws[15:], params)
        ),
        image,
    )
    image = steps.sometimes(
        draws[7],
        params.photometric_probability,
        lambda picture: photometric.jitter(
            picture, draws[8:12], strength=params.photometric_strength
        ),
        image,
    )
    image = steps.sometimes(
        draws[12],
        params.rotation_probability,
        lambda picture: geometry.rotate(
            picture, (2 * draws[13] - 1) * params.rotation_degrees
        ),
        image,
    )
    return steps.sometimes(draws[14], params.flip_probability, steps.flip, image)


def draw_on_device(images: Any, keys: Any, params: Any) -> Any:
    """`draw` of a batch, in JAX."""
    from qface_jax.data_pipelines.device_degradation import geometry, photometric, steps

    draws = steps.uniform(15 + BOX_DRAWS, keys)
    planes = steps.planes(images)
    planes = steps.sometimes(
        draws[:, 0],
        params.rescale_probability,
        lambda planes: steps.rescale_with_jpeg(planes, draws[:, 1:6], params),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 6],
        params.crop_probability,
        lambda planes: geometry.enlarge_box(
            planes, steps.crop_box(draws[:, 15:], params)
        ),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 7],
        params.photometric_probability,
        lambda planes: photometric.jitter(
            planes, draws[:, 8:12], strength=params.photometric_strength
        ),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 12],
        params.rotation_probability,
        lambda planes: geometry.rotate(
            planes, (2 * draws[:, 13] - 1) * params.rotation_degrees
        ),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 14], params.flip_probability, geometry.flip, planes
    )
    return steps.pictures(planes)


RECIPE = Recipe(
    draw,
    {
        "flip_probability": Option(0.5, SHARE, "of being mirrored, left and right"),
        "rescale_probability": Option(1.0, SHARE, "of going down and up again"),
        "rescale_side": Option(
            (0.1, 0.5), SHARES, "side after down-sampling, share of 112"
        ),
        "jpeg_probability": Option(1.0, SHARE, "of a rescaled picture"),
        "jpeg_quality": Option(
            (75, 75), JPEG_QUALITIES, "drawn, applied at the small size"
        ),
        # This, photometric_ and rotation_probability were never published.
        "crop_probability": Option(0.5, SHARE, "of a box that fills the picture"),
        "crop_area": Option(
            (0.8, 1.0), SHARES, "share of the image that fills the new one"
        ),
        "crop_aspect": Option((0.75, 4 / 3), ASPECTS, "width / height of the box"),
        "photometric_probability": Option(
            0.5, SHARE, "of other brightness, contrast and saturation"
        ),
        "photometric_strength": Option(
            0.2, SHARE, "factors are within 1 - strength .. 1 + strength"
        ),
        "rotation_probability": Option(0.2, SHARE, "of being rotated"),
        "rotation_degrees": Option(
            45.0, DEGREES, "at most, either way; corners turn black"
        ),
    },
    draw_on_device=draw_on_device,
    reference="QGFace: Quality-Guided Joint Training For Mixed-Quality Face "
    "Recognition, section III-B. How often each step is taken was not published",
)
