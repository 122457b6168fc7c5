"""AdaFace's own augmentation: crop, down-up-sampling, photometric, each sometimes.

The photometric step of the paper (section 4.1) changes hue, saturation and brightness,
without saying how much; that of its published code brightness, contrast and saturation,
each by 0.5, and no hue. The default is the code, which its models were trained with;
`photometric_third` = "hue" is the paper.
"""

from typing import Any

from qface_jax.data_pipelines.degradation.recipe import BOX_DRAWS, Recipe
from qface_jax.options import ASPECTS, SHARE, SHARES, Option, Rule, one_of


def draw(image: Any, seed: Any, params: Any) -> Any:
    """Mirrors, keeps a box on black, rescales and changes colours, each sometimes."""
    from qface_jax.data_pipelines.degradation import geometry, photometric, steps

    # Differs from AdaFace/dataset/augmenter.py: OpenCV's cubic has a = -3/4 and its
    # Lanczos four lobes; ours are those of `resample.KERNELS`, a = -1/2 and three.
    draws = steps.uniform(11 + BOX_DRAWS, seed)
    image = steps.sometimes(draws[0], params.flip_probability, steps.flip, image)
    image = steps.sometimes(
        draws[1],
        params.crop_probability,
        lambda picture: geometry.keep_box(picture, steps.crop_box(draws[11:], params)),
        image,
    )
    image = steps.sometimes(
        draws[2],
        params.rescale_probability,
        lambda picture: steps.rescale(picture, draws[3:6], params.rescale_side),
        image,
    )
    return steps.sometimes(
        draws[6],
        params.photometric_probability,
        lambda picture: photometric.jitter(
            picture,
            draws[7:11],
            strength=params.photometric_strength,
            hue_shift=(
                params.photometric_hue_shift
                if params.photometric_third == "hue"
                else None
            ),
        ),
        image,
    )


def draw_on_device(images: Any, keys: Any, params: Any) -> Any:
    """`draw` of a batch, in JAX."""
    from qface_jax.data_pipelines.device_degradation import geometry, photometric, steps

    draws = steps.uniform(11 + BOX_DRAWS, keys)
    planes = steps.planes(images)
    planes = steps.sometimes(
        draws[:, 0], params.flip_probability, geometry.flip, planes
    )
    planes = steps.sometimes(
        draws[:, 1],
        params.crop_probability,
        lambda planes: geometry.keep_box(planes, steps.crop_box(draws[:, 11:], params)),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 2],
        params.rescale_probability,
        lambda planes: steps.rescale(planes, draws[:, 3:6], params.rescale_side),
        planes,
    )
    planes = steps.sometimes(
        draws[:, 6],
        params.photometric_probability,
        lambda planes: photometric.jitter(
            planes,
            draws[:, 7:11],
            strength=params.photometric_strength,
            hue_shift=(
                params.photometric_hue_shift
                if params.photometric_third == "hue"
                else None
            ),
        ),
        planes,
    )
    return steps.pictures(planes)


RECIPE = Recipe(
    draw,
    {
        "flip_probability": Option(0.5, SHARE, "of being mirrored, left and right"),
        "crop_probability": Option(0.2, SHARE, "of keeping a box of the picture only"),
        "crop_area": Option(
            (0.2, 1.0), SHARES, "share of the image that stays, rest black"
        ),
        "crop_aspect": Option((0.75, 4 / 3), ASPECTS, "width / height of the box"),
        "rescale_probability": Option(0.2, SHARE, "of going down and up again"),
        "rescale_side": Option(
            (0.2, 1.0), SHARES, "side after down-sampling, share of 112"
        ),
        "photometric_probability": Option(
            0.2, SHARE, "of other brightness, saturation, and photometric_third"
        ),
        "photometric_strength": Option(
            0.5, SHARE, "factors are within 1 - strength .. 1 + strength"
        ),
        "photometric_third": Option(
            "contrast",
            one_of("contrast", "hue"),
            "changed besides brightness and saturation: contrast, as in the published "
            "code, or hue, as in the paper",
        ),
        # The paper does not say how far.
        "photometric_hue_shift": Option(
            0.1,
            Rule(lambda v: 0 <= v <= 0.5, "must be within [0, 0.5]"),
            "where that is hue: at most, either way, share of the circle of colours",
        ),
    },
    draw_on_device=draw_on_device,
    reference="Kim, Jain, Liu, AdaFace: Quality Adaptive Margin for Face Recognition, "
    "CVPR 2022, section 4.1",
)
