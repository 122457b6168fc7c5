"""A backbone of one's own, in one file.

    qface train --config=demo --config.model.backbone=examples/own_backbone.py:STACK
    python examples/own_backbone.py [KEY=VALUE ...]

The last takes three steps with it, on noise, and embeds two images.
"""

import sys

import numpy as np
from flax import linen as nn

import qface_jax
from qface_jax.models.network import Backbone, BackboneEntry
from qface_jax.options import POSITIVE, Option


class Trunk(nn.Module):
    """Strided convolutions: images [b, 112, 112, 3] to a map [b, 7, 7, 8 width]."""

    width: int

    @nn.compact
    def __call__(self, images, train):
        """Returns the last feature map."""
        for stage in range(4):
            images = nn.relu(nn.Conv(self.width << stage, (3, 3), strides=2)(images))
        return images


class Neck(nn.Module):
    """The mean of the map, and a linear layer."""

    embedding_dim: int

    @nn.compact
    def __call__(self, feature_map, train):
        """Returns the features [b, embedding_dim]."""
        return nn.Dense(self.embedding_dim)(feature_map.mean((1, 2)))


def build(embedding_dim, width, **unused):
    """Returns the two parts."""
    return Backbone(Trunk(width), Neck(embedding_dim))


STACK = BackboneEntry(build, {"width": Option(16, POSITIVE, "channels of stage 0")})

if __name__ == "__main__":
    state, step = qface_jax.make_step(
        "demo", 10, overrides=[*sys.argv[1:], f"model.backbone={__file__}:STACK"]
    )
    rng = np.random.default_rng(0)
    size = step.config.data.batch_size
    for number in range(3):
        images = rng.integers(0, 256, (size, 112, 112, 3), dtype=np.uint8)
        state, metrics = step(state, images, rng.integers(0, 10, size))
        print(f"step {number + 1}: loss {float(metrics['loss']):.3f}")
    print("features:", step.model(state).embed(images[:2]).features.shape)
