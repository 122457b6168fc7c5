"""ResNet-50 with bottlenecks, as the octuplet loss' ArcFace baseline has it.

The body is He et al.'s: a 7x7 convolution and a 3x3 maximum at stride 2 each, four
stages of bottlenecks, ReLU. A stage shrinks in the first 1x1 convolution of its first
bottleneck, as in the paper and in Keras; torchvision shrinks in the 3x3. Convolutions
have no bias: Keras' have one, which the batch norm behind each of them takes out again.
At 112 px the last map has 4x4 pixels, a quarter of IResNet's.

References:
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    Table 1. Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep
    Face Recognition", CVPR 2019, section 3.1: batch norm, dropout, linear layer and
    batch norm make the features. Knoche et al., "Octuplet Loss: Make Face Recognition
    Robust to Image Resolution", FG 2023, section 4.4.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import (
    BatchNorm,
    Conv,
    arcface_neck,
    rematerialised,
)
from qface_jax.models.network import Backbone, BackboneEntry

_WIDTHS = (64, 128, 256, 512)  # inside the bottlenecks of each stage
_EXPANSION = 4  # channels that a bottleneck gives, per channel inside


class BottleneckBlock(nn.Module):
    """1x1(stride)-bn-relu-3x3-bn-relu-1x1-bn, plus the shortcut, then ReLU.

    The shortcut is the input, or its 1x1 projection where its shape is another.

    Attributes:
        width: channels inside; the block gives four times as many.
        stride: of the first convolution.
        dtype: of the compute.
    """

    width: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool
    ) -> Float[Array, "b p q o"]:
        """Returns the block's output."""
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        channels = _EXPANSION * self.width
        y = conv(self.width, side=1, stride=self.stride, name="conv1")(x)
        y = jax.nn.relu(norm(name="bn1")(y, train))
        y = conv(self.width, name="conv2")(y)
        y = jax.nn.relu(norm(name="bn2")(y, train))
        y = conv(channels, side=1, name="conv3")(y)
        y = norm(name="bn3")(y, train)
        if x.shape != y.shape:
            x = conv(channels, side=1, stride=self.stride, name="downsample_0")(x)
            x = norm(name="downsample_1")(x, train)
        return jax.nn.relu(x + y)


class ResNetTrunk(nn.Module):
    """Images to the last feature map.

    Attributes:
        units: bottlenecks in each of the four stages.
        dtype: of the compute; the map is float32.
        remat: recompute each bottleneck's activations in the backward pass.
    """

    units: tuple[int, int, int, int]
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map, normalised."""
        x = Conv(64, side=7, stride=2, dtype=self.dtype, name="conv1")(images)
        x = jax.nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        # Behind a ReLU zeros are as good as no pixels. The ONNX writer takes this form.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="VALID")
        block = rematerialised(BottleneckBlock, self.remat)
        for stage, (width, count) in enumerate(
            zip(_WIDTHS, self.units, strict=True), start=1
        ):
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                name = f"layer{stage}_{index}"
                x = block(width, stride, self.dtype, name=name)(x, train)
        return BatchNorm(name="bn2")(x, train)


def _build(units, *, embedding_dim, dropout, dtype, remat):
    neck = arcface_neck(embedding_dim, dropout)
    return Backbone(ResNetTrunk(units, dtype, remat), neck)


RESNET50 = BackboneEntry(functools.partial(_build, (3, 4, 6, 3)))
