"""IResNet, the ArcFace backbone of insightface (arcface_torch/backbones/iresnet.py).

Parameter paths follow the PyTorch module names, so that an importer needs only rules:
".N" becomes "_N", every other "." becomes "/", and "weight" becomes "kernel", "scale"
or "negative_slope" by the layer it belongs to (layer1.0.downsample.0.weight ->
layer1_0/downsample_0/kernel). PyTorch flattens the last map channel first, [c, h, w],
this module channel last, [h, w, c]: an importer permutes the rows of fc/kernel.
"""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import (
    BatchNorm,
    Conv,
    PReLU,
    arcface_neck,
    rematerialised,
)
from qface_jax.models.network import Backbone, BackboneEntry

_NORMAL = nn.initializers.normal(0.1)  # of every convolution, as in the reference
_WIDTHS = (64, 128, 256, 512)


class IResNetBlock(nn.Module):
    """bn-conv-bn-prelu-conv(stride)-bn, plus the input (projected where it shrinks).

    Attributes:
        channels: output channels.
        stride: of the second convolution; above 1 the shortcut is a 1x1 projection.
        dtype: of the compute.
    """

    channels: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool
    ) -> Float[Array, "b p q o"]:
        """Returns the block's output."""
        conv = functools.partial(
            Conv, self.channels, dtype=self.dtype, kernel_init=_NORMAL
        )
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        y = norm(name="bn1")(x, train)
        y = conv(name="conv1")(y)
        y = norm(name="bn2")(y, train)
        y = PReLU(name="prelu")(y)
        y = conv(stride=self.stride, name="conv2")(y)
        y = norm(name="bn3")(y, train)
        if self.stride > 1:
            x = conv(side=1, stride=self.stride, name="downsample_0")(x)
            x = norm(name="downsample_1")(x, train)
        return x + y


class IResNetTrunk(nn.Module):
    """Images to the last feature map.

    Attributes:
        units: residual blocks in each of the four stages.
        dtype: of the compute; the map is float32.
        remat: recompute each block's activations in the backward pass.
    """

    units: tuple[int, int, int, int]
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map, normalised."""
        x = Conv(64, dtype=self.dtype, kernel_init=_NORMAL, name="conv1")(images)
        x = BatchNorm(dtype=self.dtype, name="bn1")(x, train)
        x = PReLU(name="prelu")(x)
        block = rematerialised(IResNetBlock, self.remat)
        for stage, (width, count) in enumerate(
            zip(_WIDTHS, self.units, strict=True), start=1
        ):
            for index in range(count):
                stride = 2 if index == 0 else 1
                name = f"layer{stage}_{index}"
                x = block(width, stride, self.dtype, name=name)(x, train)
        return BatchNorm(name="bn2")(x, train)


def _build(units, *, embedding_dim, dropout, dtype, remat):
    """Returns the backbone with that many residual blocks in each stage.

    References:
        Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face
        Recognition", CVPR 2019; insightface, recognition/arcface_torch.
    """
    neck = arcface_neck(embedding_dim, dropout)
    return Backbone(IResNetTrunk(units, dtype, remat), neck)


IRESNET18 = BackboneEntry(functools.partial(_build, (2, 2, 2, 2)))
IRESNET34 = BackboneEntry(functools.partial(_build, (3, 4, 6, 3)))
IRESNET50 = BackboneEntry(functools.partial(_build, (3, 4, 14, 3)))
IRESNET100 = BackboneEntry(functools.partial(_build, (3, 13, 30, 3)))
IRESNET200 = BackboneEntry(functools.partial(_build, (6, 26, 60, 6)))
