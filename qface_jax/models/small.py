"""Small backbones: "mini" learns on a laptop's CPU, "tiny" only proves the plumbing.

No depthwise convolutions: on a CPU they cost more time than the products they save.
"""

import functools

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
from qface_jax.models.network import Backbone, BackboneEntry


class SmallBlock(nn.Module):
    """bn-conv(stride)-bn-prelu-conv-bn, plus the shortcut.

    It shrinks in the first convolution, unlike the large backbones: half the products.

    Attributes:
        channels: output channels.
        stride: of the first convolution; above 1 the shortcut is a 1x1 projection.
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
        conv = functools.partial(Conv, self.channels, dtype=self.dtype)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        y = norm(name="bn1")(x, train)
        y = conv(stride=self.stride, name="conv1")(y)
        y = norm(name="bn2")(y, train)
        y = PReLU(name="prelu")(y)
        y = conv(name="conv2")(y)
        y = norm(name="bn3")(y, train)
        if self.stride > 1:
            x = conv(side=1, stride=self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train)
        return x + y


class SmallTrunk(nn.Module):
    """Images to the last feature map.

    Attributes:
        cell: the stem makes each cell x cell square of pixels one pixel's channels.
        widths: channels of each stage; every stage after the first halves the map.
        units: residual blocks of each stage.
        dtype: of the compute; the map is float32.
        remat: recompute each block's activations in the backward pass.
    """

    cell: int
    widths: tuple[int, ...]
    units: tuple[int, ...]
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> Float[Array, "b p q c"]:
        """Returns the map, normalised."""
        x = space_to_depth(images.astype(self.dtype), cell=self.cell)
        x = Conv(self.widths[0], stride=2, dtype=self.dtype, name="conv1")(x)
        x = BatchNorm(dtype=self.dtype, name="bn1")(x, train)
        x = PReLU(name="prelu")(x)
        block = rematerialised(SmallBlock, self.remat)
        stages = zip(self.widths, self.units, strict=True)
        for stage, (width, count) in enumerate(stages, start=1):
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                name = f"layer{stage}_{index}"
                x = block(width, stride, self.dtype, name=name)(x, train)
        return BatchNorm(name="bn2")(x, train)


def space_to_depth(
    images: Float[Array, "b h w c"], *, cell: int
) -> Float[Array, "b p q e"]:
    """Returns each cell x cell square of pixels as the channels of one pixel.

    Args:
        images: [b, h, w, c], h and w multiples of `cell`.
        cell: side of a square, in pixels.

    Returns:
        [b, h / cell, w / cell, cell * cell * c].
    """
    b, h, w, c = images.shape
    squares = images.reshape(b, h // cell, cell, w // cell, cell, c)
    squares = squares.transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(b, h // cell, w // cell, cell * cell * c)


def _build(cell, widths, units, *, embedding_dim, dropout, dtype, remat):
    trunk = SmallTrunk(cell, widths, units, dtype, remat)
    return Backbone(trunk, FlatNeck(embedding_dim, dropout))


MINI = BackboneEntry(functools.partial(_build, 2, (32, 64, 128), (1, 1, 2)))
TINY = BackboneEntry(functools.partial(_build, 8, (8, 16), (1, 1)))
