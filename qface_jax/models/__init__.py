"""Backbones: images to features. The only folder that knows Flax Linen."""

from qface_jax.models.factory import (
    IMAGE_SIDE,
    INIT_FROM,
    Model,
    build,
    embed,
    feature_map_shape,
    to_float,
)
from qface_jax.tables import BACKBONES

__all__ = [
    "BACKBONES",
    "IMAGE_SIDE",
    "INIT_FROM",
    "Model",
    "build",
    "embed",
    "feature_map_shape",
    "to_float",
]
