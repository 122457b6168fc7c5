"""Every key of the recipes that degrade pictures: the group `degrade`."""

from ml_collections import ConfigDict


def degradation() -> ConfigDict:
    """Returns the group `degrade`: a group of its own for every recipe."""
    degrade = ConfigDict()
    # A key of data_pipelines.degrade.RECIPES, or of view_pairs.PAIR_RECIPES, which
    # draw both views of a picture.
    degrade.recipe = "adaface"
    degrade.clean = ConfigDict({"flip_probability": 0.5})
    degrade.adaface = ConfigDict(
        {
            "flip_probability": 0.5,
            "crop_probability": 0.2,
            "crop_area": (0.2, 1.0),  # share of the image that stays, rest black
            "crop_aspect": (0.75, 4 / 3),
            "rescale_probability": 0.2,
            "rescale_side": (0.2, 1.0),  # side after down-sampling, share of 112
            "photometric_probability": 0.2,
            "photometric_strength": 0.5,
        }
    )
    degrade.resolution = ConfigDict(
        {
            "flip_probability": 0.5,
            "probability": 0.5,  # of being degraded at all
            "sides": (7, 14, 28),  # px; one is drawn per image
            "antialias": True,
            "jpeg_probability": 0.0,
            "jpeg_quality": (60, 95),  # drawn, applied at the small size
        }
    )
    degrade.octuplet = ConfigDict(
        {
            "flip_probability": 0.5,  # this and the next two act on both views alike
            "brightness": 0.2,  # factor within 1 - b .. 1 + b
            "saturation": 0.2,
            "sides": (7, 14, 28),  # px; one is drawn per image
            "antialias": True,
            "jpeg_probability": 0.0,
            "jpeg_quality": (60, 95),  # drawn, applied at the small size
        }
    )
    degrade.qgface = ConfigDict(
        {
            "flip_probability": 0.5,
            "rescale_probability": 1.0,
            "rescale_side": (0.1, 0.5),  # side after down-sampling, share of 112
            "jpeg_probability": 1.0,  # of a rescaled picture
            "jpeg_quality": (75, 75),  # drawn, applied at the small size
            # The next three probabilities were never published.
            "crop_probability": 0.5,
            "crop_area": (0.8, 1.0),  # share of the image that fills the new one
            "crop_aspect": (0.75, 4 / 3),
            "photometric_probability": 0.5,
            "photometric_strength": 0.2,
            "rotation_probability": 0.2,
            "rotation_degrees": 45.0,  # at most, either way; corners turn black
        }
    )
    degrade.recognizability = _recognizability()
    degrade.unrecognizable = _unrecognizable()
    return degrade


def _recognizability() -> ConfigDict:
    """Training pictures of recognizability."""
    return ConfigDict(
        {
            # How often each step is taken was never published.
            "flip_probability": 0.5,
            "rotation_probability": 0.5,
            "rotation_degrees": 10.0,  # at most, either way; corners turn black
            "rescale_probability": 0.5,
            "rescale_sides": (64, 100),  # px; one is drawn per image
            "antialias": True,
            # Beyond the paper, for training sets of sharp pictures.
            "low_probability": 0.0,
            "low_sides": (7, 14, 28),  # px; one is drawn per image
            "jpeg_probability": 0.0,  # of a picture that goes through low_sides
            "jpeg_quality": (60, 95),  # drawn, applied at the small size
        }
    )


def _unrecognizable() -> ConfigDict:
    """What makes unrecognizable images of training images."""
    return ConfigDict(
        {
            "flip_probability": 0.5,
            "shrink_probability": 1.0,
            "sides": (4, 5, 6, 7, 8),  # px; one is drawn per image
            "antialias": True,
            "blur_probability": 1.0,
            "blur_sigma": (2.0, 6.0),  # px, at 112 px
            "occlusion_probability": 0.5,  # a box of one grey
            "occlusion_area": (0.1, 0.4),  # share of the image
            "occlusion_aspect": (0.5, 2.0),
            "brightness_probability": 1.0,
            "brightness": (0.5, 1.2),  # factor
        }
    )
