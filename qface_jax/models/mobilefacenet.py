"""MobileFaceNet of insightface (arcface_torch/backbones/mobilefacenet.py, "mbf").

Parameter paths follow the PyTorch module names by the rules of iresnet.py
(layers.3.layers.0.layers.1.layers.0.weight -> layers_3/layers_0/layers_1/layers_0/
kernel). The map is 1x1 when it is flattened, so no rows need permuting.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import (
    KAIMING_FAN_OUT,
    BatchNorm,
    Conv,
    PReLU,
    mark_last_map,
    rematerialised,
)


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
        x = Conv(
            self.channels,
            side=self.side,
            stride=self.stride,
            groups=self.groups,
            padding=self.padding,
            dtype=self.dtype,
            name="layers_0",
        )(x)
        x = BatchNorm(dtype=self.dtype, name="layers_1")(x, train)
        return PReLU(name="layers_2")(x) if self.activate else x


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


class DepthwiseEmbedding(nn.Module):
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


class MobileFaceNet(nn.Module):
    """Images to features.

    Attributes:
        embedding_dim: d, length of a feature.
        dropout: probability, before the last linear layer.
        dtype: of the compute up to the last feature map; the rest is float32.
        remat: recompute each bottleneck's activations in the backward pass.

    References:
        Chen, Liu, Gao, Han, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face
        Verification on Mobile Devices", CCBR 2018; insightface, arcface_torch.
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
        x = mark_last_map(self, x.astype(jnp.float32))
        return DepthwiseEmbedding(self.embedding_dim, self.dropout, name="features")(
            x, train
        )
