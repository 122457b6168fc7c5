"""IR and IR-SE networks of the AdaFace repository (mk-minchul/AdaFace net.py).

Parameter paths follow the PyTorch module names by the rules of iresnet.py, with one
more: "res_layer.se_block." is "se_block/". The reference's first convolution expects
BGR and its last feature map is flattened [c, h, w]; here both are RGB and [h, w, c], so
an importer reverses the input channels of input_layer_0/kernel and permutes the rows of
output_layer_3/kernel. The reference also divides the features by their norm at the end;
here the loss does.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import (
    BatchNorm,
    Conv,
    FlatNeck,
    PReLU,
    rematerialised,
)
from qface_jax.models.convolution import every_nth_pixel
from qface_jax.models.network import Backbone, BackboneEntry

_WIDTHS = (64, 128, 256, 512)
_SQUEEZE = 16  # channels of an SE block per channel of its bottleneck


class SqueezeExcite(nn.Module):
    """Channels weighted by a two-layer function of their means over the pixels.

    Attributes:
        dtype: of the compute.
    """

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns x times its channel weights."""
        channels = x.shape[-1]
        weights = x.mean((1, 2), keepdims=True, dtype=jnp.float32)
        weights = Conv(channels // _SQUEEZE, side=1, dtype=self.dtype, name="fc1")(
            weights
        )
        weights = Conv(channels, side=1, dtype=self.dtype, name="fc2")(
            jax.nn.relu(weights)
        )
        return x * jax.nn.sigmoid(weights)


class IRBlock(nn.Module):
    """bn-conv-bn-prelu-conv(stride)-bn(-SE), plus the shortcut.

    The shortcut is every stride-th pixel while the channels stay, a 1x1 projection
    where they grow.

    Attributes:
        channels: output channels.
        stride: of the second convolution.
        squeeze: end the residual branch with an SE block.
        dtype: of the compute.
    """

    channels: int
    stride: int
    squeeze: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool
    ) -> Float[Array, "b p q o"]:
        """Returns the block's output."""
        conv = functools.partial(Conv, self.channels, dtype=self.dtype)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        y = norm(name="res_layer_0")(x, train)
        y = conv(name="res_layer_1")(y)
        y = norm(name="res_layer_2")(y, train)
        y = PReLU(name="res_layer_3")(y)
        y = conv(stride=self.stride, name="res_layer_4")(y)
        y = norm(name="res_layer_5")(y, train)
        if self.squeeze:
            y = SqueezeExcite(self.dtype, name="se_block")(y)
        if x.shape[-1] == self.channels:
            x = every_nth_pixel(x, self.stride)
        else:
            x = conv(side=1, stride=self.stride, name="shortcut_layer_0")(x)
            x = norm(name="shortcut_layer_1")(x, train)
        return x + y


class AdaFaceTrunk(nn.Module):
    """Images to the last feature map.

    Attributes:
        units: residual blocks in each of the four stages.
        squeeze: SE blocks (IR-SE).
        dtype: of the compute; the map is float32.
        remat: recompute each block's activations in the backward pass.
    """

    units: tuple[int, int, int, int]
    squeeze: bool
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map, normalised."""
        x = Conv(64, dtype=self.dtype, name="input_layer_0")(images)
        x = BatchNorm(dtype=self.dtype, name="input_layer_1")(x, train)
        x = PReLU(name="input_layer_2")(x)
        block = rematerialised(IRBlock, self.remat)
        strides = [
            (width, 2 if index == 0 else 1)
            for width, count in zip(_WIDTHS, self.units, strict=True)
            for index in range(count)
        ]
        for index, (width, stride) in enumerate(strides):
            name = f"body_{index}"
            x = block(width, stride, self.squeeze, self.dtype, name=name)(x, train)
        return BatchNorm(name="output_layer_0")(x, train)


def _build(units, squeeze=False, *, embedding_dim, dropout, dtype, remat):
    """Returns the backbone; the reference has a dropout of 0.4.

    References:
        Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition",
        CVPR 2022, and its repository.
    """
    neck = FlatNeck(
        embedding_dim,
        dropout,
        linear="output_layer_3",
        norm="output_layer_4",
        norm_bias=False,
    )
    return Backbone(AdaFaceTrunk(units, squeeze, dtype, remat), neck)


IR_18 = BackboneEntry(functools.partial(_build, (2, 2, 2, 2)))
IR_34 = BackboneEntry(functools.partial(_build, (3, 4, 6, 3)))
IR_50 = BackboneEntry(functools.partial(_build, (3, 4, 14, 3)))
IR_101 = BackboneEntry(functools.partial(_build, (3, 13, 30, 3)))
IR_SE_50 = BackboneEntry(functools.partial(_build, (3, 4, 14, 3), True))
