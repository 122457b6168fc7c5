"""Pictures on which so little of a face is left that nobody can be told by it."""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import (
    BOX_DRAWS,
    DRAWS_OF_SHRINK,
    Recipe,
)
from qface_jax.options import ASPECTS, FACTORS, SHARE, SHARES, SIDES, SIGMAS, Option


def draw(image: Any, seed: Any, params: Any) -> Any:
    """Shrinks, blurs, covers in part by a box of one grey, and brightens or darkens.

    Each with its own probability. It stands in for the tiny faces that the published
    method collects by hand; what is done to a picture is this project's choice.
    """
    from qface_jax.data_pipelines.degradation import steps

    box_at = 8 + DRAWS_OF_SHRINK
    draws = steps.uniform(box_at + BOX_DRAWS, seed)
    image = steps.sometimes(draws[0], params.flip_probability, steps.flip, image)
    image = steps.sometimes(
        draws[1],
        params.shrink_probability,
        lambda picture: steps.shrink(
            picture, draws[8:box_at], params.sides, antialias=params.antialias
        ),
        image,
    )
    image = steps.sometimes(
        draws[2],
        params.blur_probability,
        lambda picture: steps.blur(picture, steps.between(draws[3], params.blur_sigma)),
        image,
    )
    image = steps.sometimes(
        draws[4],
        params.occlusion_probability,
        lambda picture: steps.cover(
            picture,
            draws[box_at:],
            draws[5],
            area=params.occlusion_area,
            aspect=params.occlusion_aspect,
        ),
        image,
    )
    return steps.sometimes(
        draws[6],
        params.brightness_probability,
        lambda picture: steps.brighten(
            picture, steps.between(draws[7], params.brightness)
        ),
        image,
    )


RECIPE = Recipe(
    draw,
    {
        "flip_probability": Option(0.5, SHARE, "of being mirrored, left and right"),
        "shrink_probability": Option(1.0, SHARE, "of going through `sides`"),
        "sides": Option((4, 5, 6, 7, 8), SIDES, "px; one is drawn per image"),
        "antialias": Option(True, None, "in the down-sampling"),
        "blur_probability": Option(1.0, SHARE, "of a Gaussian blur"),
        "blur_sigma": Option((2.0, 6.0), SIGMAS, "px, at 112 px"),
        "occlusion_probability": Option(0.5, SHARE, "a box of one grey"),
        "occlusion_area": Option((0.1, 0.4), SHARES, "share of the image"),
        "occlusion_aspect": Option((0.5, 2.0), ASPECTS, "width / height of the box"),
        "brightness_probability": Option(1.0, SHARE, "of another brightness"),
        "brightness": Option((0.5, 1.2), FACTORS, "factor"),
    },
    reference="Recognizability Embedding Enhancement for Very Low-Resolution Face "
    "Recognition and Quality Estimation, CVPR 2023: unrecognizable images",
)
