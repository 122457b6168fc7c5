"""MobileNetV2, as the octuplet loss' smaller baseline has it.

The body is Sandler et al.'s at width 1: inverted residuals with ReLU6 and depthwise
convolutions. Strided convolutions have a row of zeros on each side, as in torchvision;
TensorFlow's have it behind the last pixel alone. At 112 px the last map has 4x4 pixels;
all of them make the features, after a batch norm, as in ArcFace.

References:
    Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear
    Bottlenecks", CVPR 2018, Table 2. Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive
    Angular Margin Loss for Deep Face Recognition", CVPR 2019, section 3.1. Knoche et
    al., "Octuplet Loss: Make Face Recognition Robust to Image Resolution", FG 2023,
    section 4.2.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import BatchNorm, arcface_neck, rematerialised
from qface_jax.models.mobilefacenet import InvertedResidual, conv_norm
from qface_jax.models.network import Backbone, BackboneEntry

# After the first block: channels out, blocks, first stride. Inside a block there are
# six channels for each that comes in.
_EXPANSION = 6
_STAGES = (
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)


class MobileNetV2Trunk(nn.Module):
    """Images to the last feature map.

    Attributes:
        dtype: of the compute; the map is float32.
        remat: recompute each block's activations in the backward pass.
    """

    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map, normalised."""
        unit = functools.partial(conv_norm, dtype=self.dtype)
        relu6 = jax.nn.relu6
        x = unit(
            images,
            train,
            32,
            names=("features_0_0", "features_0_1"),
            activation=relu6,
            stride=2,
        )
        # The first block does not widen: a depthwise and a 1x1 convolution.
        x = unit(
            x,
            train,
            32,
            names=("features_1_conv_0_0", "features_1_conv_0_1"),
            activation=relu6,
            groups=32,
        )
        x = unit(x, train, 16, names=("features_1_conv_1", "features_1_conv_2"), side=1)
        block = rematerialised(InvertedResidual, self.remat)
        index = 2
        for channels, count, first_stride in _STAGES:
            for stride in (first_stride, *[1] * (count - 1)):
                width, name = _EXPANSION * x.shape[-1], f"features_{index}"
                x = block(channels, width, stride, self.dtype, name=name)(x, train)
                index += 1
        x = unit(
            x,
            train,
            1280,
            names=("features_18_0", "features_18_1"),
            activation=relu6,
            side=1,
        )
        return BatchNorm(name="bn2")(x, train)


def _build(*, embedding_dim, dropout, dtype, remat):
    neck = arcface_neck(embedding_dim, dropout)
    return Backbone(MobileNetV2Trunk(dtype, remat), neck)


MOBILENET_V2 = BackboneEntry(_build)
