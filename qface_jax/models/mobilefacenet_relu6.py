"""MobileFaceNet of foamliu (MobileFaceNet, mobilefacenet.py): ReLU and ReLU6, no PReLU.

It differs from models/mobilefacenet.py in the activations, in half the channels, and in
an embedding that is a 1x1 convolution with bias and batch norm. Parameter paths follow
the PyTorch module names by the rules of iresnet.py (features.0.conv.1.0.weight ->
features_0/conv_1_0/kernel). The map is 1x1 when it is flattened, so no rows need
permuting.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import (
    TORCH_LINEAR,
    BatchNorm,
    Conv,
    mark_last_map,
    rematerialised,
    uniform_within,
)

# (channels inside per channel in, channels out, blocks, stride of the first).
_STAGES = (
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class InvertedResidual(nn.Module):
    """1x1 to `width` channels, 3x3 on each of them alone, 1x1 to `channels`.

    Attributes:
        channels: output channels; where they are the input's and the stride is 1, the
            input is added.
        width: channels in between.
        stride: of the 3x3.
        dtype: of the compute.
    """

    channels: int
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
        y = conv(self.width, side=1, name="conv_0_0")(x)
        y = jax.nn.relu6(norm(name="conv_0_1")(y, train))
        y = conv(self.width, stride=self.stride, groups=self.width, name="conv_1_0")(y)
        y = jax.nn.relu6(norm(name="conv_1_1")(y, train))
        y = conv(self.channels, side=1, name="conv_2")(y)
        y = norm(name="conv_3")(y, train)
        return x + y if y.shape == x.shape else y


class DepthwiseSeparable(nn.Module):
    """3x3 on each channel alone, then 1x1, each with batch norm and ReLU.

    Attributes:
        channels: output channels.
        dtype: of the compute.
    """

    channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool
    ) -> Float[Array, "b h w o"]:
        """Returns the layer's output."""
        inside, dtype = x.shape[-1], self.dtype
        x = Conv(inside, groups=inside, dtype=dtype, name="depthwise")(x)
        x = jax.nn.relu(BatchNorm(dtype=dtype, name="bn1")(x, train))
        x = Conv(self.channels, side=1, dtype=dtype, name="pointwise")(x)
        return jax.nn.relu(BatchNorm(dtype=dtype, name="bn2")(x, train))


class GlobalDepthwise(nn.Module):
    """Each channel's weighted mean over the whole map, and batch norm, in float32."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b c"]:
        """Returns a value per channel."""
        side, channels = x.shape[1], x.shape[-1]
        whole = Conv(channels, side=side, groups=channels, padding=0, name="depthwise")
        x = BatchNorm(name="bn")(whole(x), train)
        return x.reshape(x.shape[0], channels)


class MobileFaceNetRelu6(nn.Module):
    """Images to features.

    Attributes:
        embedding_dim: d, length of a feature; the published weights have 128.
        dropout: probability, before the last linear layer; the reference has none.
        dtype: of the compute up to the last feature map; the rest is float32.
        remat: recompute each block's activations in the backward pass.

    References:
        Chen, Liu, Gao, Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face
        Verification on Mobile Devices", CCBR 2018; foamliu, MobileFaceNet. Sandler,
        Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear
        Bottlenecks", CVPR 2018.
    """

    embedding_dim: int
    dropout: float
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b d"]:
        """Returns the features, float32, not normalised."""
        dtype = self.dtype
        x = Conv(64, stride=2, dtype=dtype, name="conv1_0")(images)
        x = jax.nn.relu6(BatchNorm(dtype=dtype, name="conv1_1")(x, train))
        x = DepthwiseSeparable(64, dtype, name="dw_conv")(x, train)
        block = rematerialised(InvertedResidual, self.remat)
        index = 0
        for expansion, channels, count, first_stride in _STAGES:
            for stride in (first_stride, *[1] * (count - 1)):
                width, name = expansion * x.shape[-1], f"features_{index}"
                x = block(channels, width, stride, dtype, name=name)(x, train)
                index += 1
        x = Conv(512, side=1, dtype=dtype, name="conv2_0")(x)
        x = jax.nn.relu6(BatchNorm(dtype=dtype, name="conv2_1")(x, train))
        x = mark_last_map(self, x.astype(jnp.float32))
        x = GlobalDepthwise(name="gdconv")(x, train)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = nn.Dense(
            self.embedding_dim,
            kernel_init=TORCH_LINEAR,
            bias_init=uniform_within(1 / math.sqrt(x.shape[-1])),
            name="conv3",
        )(x)
        return BatchNorm(name="bn")(x, train)
