"""Backbones: images to features. The only folder that knows Flax Linen."""

from qface_jax.models.factory import (
    BACKBONES,
    DTYPES,
    IMAGE_SIDE,
    INIT_FROM,
    Model,
    build,
    embed,
    feature_map_shape,
    to_float,
)

__all__ = [
    "BACKBONES",
    "DTYPES",
    "IMAGE_SIDE",
    "INIT_FROM",
    "Model",
    "build",
    "embed",
    "feature_map_shape",
    "to_float",
]
