"""Backbones: images to features. The only folder that knows Flax Linen."""

from qface_jax.models.factory import (
    IMAGE_SIDE,
    Model,
    build,
    embed,
    feature_map_shape,
    to_float,
)

__all__ = [
    "IMAGE_SIDE",
    "Model",
    "build",
    "embed",
    "feature_map_shape",
    "to_float",
]
