"""MobileFaceNet: that of insightface with PReLU, and that of foamliu with ReLU6.

The first is arcface_torch/backbones/mobilefacenet.py ("mbf"). The second, of the
repository MobileFaceNet, has no PReLU, half the channels, and an embedding that is a
1x1 convolution with bias and batch norm. Parameter paths follow the PyTorch module
names by the rules of iresnet.py (layers.3.layers.0.layers.1.layers.0.weight ->
layers_3/layers_0/layers_1/layers_0/kernel; features.0.conv.1.0.weight ->
features_0/conv_1_0/kernel). The map is 1x1 when it is flattened, so no rows need
permuting.

References:
    Chen, Liu, Gao, Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face
    Verification on Mobile Devices", CCBR 2018; insightface, arcface_torch; foamliu,
    MobileFaceNet. Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted
    Residuals and Linear Bottlenecks", CVPR 2018.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import (
    KAIMING_FAN_OUT,
    TORCH_LINEAR,
    BatchNorm,
    Conv,
    PReLU,
    rematerialised,
    uniform_within,
)
from qface_jax.models.network import Backbone, BackboneEntry

# With ReLU6: (channels inside per channel in, channels out, blocks, first stride).
_STAGES = (
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


def conv_norm(
    x: Float[Array, "b h w i"],
    train: bool,
    channels: int,
    *,
    names: tuple[str, str],
    activation: Callable[[jax.Array], jax.Array] | None = None,
    dtype: jnp.dtype = jnp.float32,
    **conv: Any,
) -> Float[Array, "b p q o"]:
    """Returns convolution, batch norm and activation, as layers of the caller.

    Args:
        x: input.
        train: normalise by the batch.
        channels: output channels.
        names: of the convolution and of the batch norm.
        activation: None leaves it out.
        dtype: of the compute.
        **conv: other attributes of `blocks.Conv`.
    """
    x = Conv(channels, dtype=dtype, name=names[0], **conv)(x)
    x = BatchNorm(dtype=dtype, name=names[1])(x, train)
    return x if activation is None else activation(x)


class ConvUnit(nn.Module):
    """Convolution, batch norm and, if asked for, PReLU.

    Attributes:
        channels: output channels.
        side: of the kernel, in pixels.
        stride: step between output pixels.
        groups: independent channel groups.
        padding: zeros on each side in pixels; None keeps the size.
        activate: end with PReLU.
        dtype: of the compute.
    """

    channels: int
    side: int = 1
    stride: int = 1
    groups: int = 1
    padding: int | None = None
    activate: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool
    ) -> Float[Array, "b p q o"]:
        """Returns the unit's output."""
        return conv_norm(
            x,
            train,
            self.channels,
            names=("layers_0", "layers_1"),
            activation=PReLU(name="layers_2") if self.activate else None,
            dtype=self.dtype,
            side=self.side,
            stride=self.stride,
            groups=self.groups,
            padding=self.padding,
        )


class Bottleneck(nn.Module):
    """1x1 to `width` channels, 3x3 on each of them alone, 1x1 to `channels`.

    Attributes:
        channels: output channels.
        width: channels in between.
        stride: of the 3x3; at stride 1 the input is added to the output.
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
        """Returns the bottleneck's output."""
        y = ConvUnit(self.width, dtype=self.dtype, name="layers_0")(x, train)
        y = ConvUnit(
            self.width,
            side=3,
            stride=self.stride,
            groups=self.width,
            dtype=self.dtype,
            name="layers_1",
        )(y, train)
        y = ConvUnit(self.channels, activate=False, dtype=self.dtype, name="layers_2")(
            y, train
        )
        return x + y if self.stride == 1 else y


class ResidualStage(nn.Module):
    """Bottlenecks of equal size, one after the other.

    Attributes:
        count: how many.
        channels: in and out of each.
        width: channels inside each.
        dtype: of the compute.
        remat: recompute each bottleneck's activations in the backward pass.
    """

    count: int
    channels: int
    width: int
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h w c"]:
        """Returns the stage's output."""
        block = rematerialised(Bottleneck, self.remat)
        for index in range(self.count):
            unit = block(
                self.channels, self.width, 1, self.dtype, name=f"layers_{index}"
            )
            x = unit(x, train)
        return x


class _Embedding(nn.Module):
    """Global depthwise convolution, then a linear layer and batch norm, in float32.

    Attributes:
        embedding_dim: d, length of a feature.
        dropout: probability, before the linear layer; the reference has none.
    """

    embedding_dim: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b d"]:
        """Returns the features."""
        channels, side = x.shape[-1], x.shape[1]
        x = ConvUnit(
            channels,
            side=side,
            groups=channels,
            padding=0,
            activate=False,
            name="layers_0",
        )(x, train)
        x = x.reshape(x.shape[0], channels)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = nn.Dense(
            self.embedding_dim,
            use_bias=False,
            kernel_init=KAIMING_FAN_OUT,
            name="layers_2",
        )(x)
        return BatchNorm(name="layers_3")(x, train)


class MobileFaceNetTrunk(nn.Module):
    """Images to the last feature map, with PReLU.

    Attributes:
        dtype: of the compute.
        remat: recompute each bottleneck's activations in the backward pass.
    """

    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map."""
        dtype, remat = self.dtype, self.remat
        block = rematerialised(Bottleneck, remat)
        layers = (
            ConvUnit(128, side=3, stride=2, dtype=dtype, name="layers_0"),
            # The reference has 64 groups here, not one per channel.
            ConvUnit(128, side=3, groups=64, dtype=dtype, name="layers_1"),
            block(128, 128, 2, dtype, name="layers_2"),
            ResidualStage(4, 128, 128, dtype, remat, name="layers_3"),
            block(256, 256, 2, dtype, name="layers_4"),
            ResidualStage(6, 256, 256, dtype, remat, name="layers_5"),
            block(256, 512, 2, dtype, name="layers_6"),
            ResidualStage(2, 256, 256, dtype, remat, name="layers_7"),
            ConvUnit(512, dtype=dtype, name="conv_sep"),
        )
        x = images
        for layer in layers:
            x = layer(x, train)
        return x


class MobileFaceNetNeck(nn.Module):
    """The map to features, in float32.

    Attributes:
        embedding_dim: d, length of a feature.
        dropout: probability, before the last linear layer; the reference has none.
    """

    embedding_dim: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b d"]:
        """Returns the features, float32, not normalised."""
        return _Embedding(self.embedding_dim, self.dropout, name="features")(x, train)


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
        unit = functools.partial(conv_norm, dtype=self.dtype)
        relu6, width = jax.nn.relu6, self.width
        y = unit(
            x, train, width, names=("conv_0_0", "conv_0_1"), activation=relu6, side=1
        )
        y = unit(
            y,
            train,
            width,
            names=("conv_1_0", "conv_1_1"),
            activation=relu6,
            stride=self.stride,
            groups=width,
        )
        y = unit(y, train, self.channels, names=("conv_2", "conv_3"), side=1)
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
        unit = functools.partial(conv_norm, activation=jax.nn.relu, dtype=self.dtype)
        inputs = x.shape[-1]
        x = unit(x, train, inputs, names=("depthwise", "bn1"), groups=inputs)
        return unit(x, train, self.channels, names=("pointwise", "bn2"), side=1)


class GlobalDepthwise(nn.Module):
    """Each channel's weighted mean over the whole map, and batch norm, in float32."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b c"]:
        """Returns a value per channel."""
        side, channels = x.shape[1], x.shape[-1]
        x = conv_norm(
            x,
            train,
            channels,
            names=("depthwise", "bn"),
            side=side,
            groups=channels,
            padding=0,
        )
        return x.reshape(x.shape[0], channels)


class MobileFaceNetRelu6Trunk(nn.Module):
    """Images to the last feature map, with ReLU6.

    Attributes:
        dtype: of the compute.
        remat: recompute each block's activations in the backward pass.
    """

    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map."""
        dtype = self.dtype
        unit = functools.partial(conv_norm, activation=jax.nn.relu6, dtype=dtype)
        x = unit(images, train, 64, names=("conv1_0", "conv1_1"), stride=2)
        x = DepthwiseSeparable(64, dtype, name="dw_conv")(x, train)
        block = rematerialised(InvertedResidual, self.remat)
        index = 0
        for expansion, channels, count, first_stride in _STAGES:
            for stride in (first_stride, *[1] * (count - 1)):
                width, name = expansion * x.shape[-1], f"features_{index}"
                x = block(channels, width, stride, dtype, name=name)(x, train)
                index += 1
        return unit(x, train, 512, names=("conv2_0", "conv2_1"), side=1)


class MobileFaceNetRelu6Neck(nn.Module):
    """The map to features, in float32.

    Attributes:
        embedding_dim: d, length of a feature; the published weights have 128.
        dropout: probability, before the last linear layer; the reference has none.
    """

    embedding_dim: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b d"]:
        """Returns the features, float32, not normalised."""
        x = GlobalDepthwise(name="gdconv")(x, train)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = nn.Dense(
            self.embedding_dim,
            kernel_init=TORCH_LINEAR,
            bias_init=uniform_within(1 / math.sqrt(x.shape[-1])),
            name="conv3",
        )(x)
        return BatchNorm(name="bn")(x, train)


def _build(trunk, neck, *, embedding_dim, dropout, dtype, remat):
    return Backbone(trunk(dtype, remat), neck(embedding_dim, dropout))


MOBILEFACENET = BackboneEntry(
    functools.partial(_build, MobileFaceNetTrunk, MobileFaceNetNeck)
)
MOBILEFACENET_RELU6 = BackboneEntry(
    functools.partial(_build, MobileFaceNetRelu6Trunk, MobileFaceNetRelu6Neck)
)
