"""Face Transformer: a vision transformer on patches of the face (vit_face.py).

Parameter paths follow the PyTorch module names by the rules of iresnet.py
(transformer.layers.0.1.fn.fn.net.3.weight -> transformer/layers_0_1/fn/fn/net_3/kernel;
pos_embedding and cls_token keep name and shape). Patches are flattened [row, column,
channel], as in the reference where they do not overlap. Where they do (vits_face.py) it
flattens them [channel, row, column]: an importer permutes the rows of
patch_to_embedding/kernel. The published weights take pixels 0..255 as they are.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import TORCH_LINEAR, rematerialised, uniform_within
from qface_jax.models.convolution import conv2d
from qface_jax.models.network import Backbone, BackboneEntry

_PATCH = 8  # px between the centres of neighbouring patches
_MLP = 4  # width of the hidden layer, in widths of a token
_EPSILON = 1e-5  # of PyTorch's layer norm
_NORMAL = nn.initializers.normal(1.0)


def _linear(width, inputs, dtype, name, *, use_bias=True):
    """A dense layer with PyTorch's initial values."""
    return nn.Dense(
        width,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=TORCH_LINEAR,
        bias_init=uniform_within(inputs**-0.5),
        name=name,
    )


def _part(x, index, axis):
    """Returns x at one place of an axis.

    Indexing would be a gather wherever the number of images is left open, and
    TensorFlow's converter does not carry that.
    """
    return jax.lax.index_in_dim(x, index, axis, keepdims=False)


class PatchEmbedding(nn.Module):
    """Square patches of the image to one vector each.

    Attributes:
        width: of a vector.
        side: of a patch, in pixels; where it is above 8 the patches overlap.
        dtype: of the compute.
    """

    width: int
    side: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Returns the vectors, row by row."""
        channels = images.shape[-1]
        inputs = self.side**2 * channels
        kernel = self.param("kernel", TORCH_LINEAR, (inputs, self.width), jnp.float32)
        bound = uniform_within(inputs**-0.5)
        bias = self.param("bias", bound, (self.width,), jnp.float32)
        square = kernel.reshape(self.side, self.side, channels, self.width)
        vectors = conv2d(
            images.astype(self.dtype),
            square.astype(self.dtype),
            stride=_PATCH,
            padding=self.side - _PATCH,
        )
        vectors = vectors.reshape(images.shape[0], -1, self.width)
        return vectors + bias.astype(self.dtype)[None, None, :]


class Attention(nn.Module):
    """Multi-head self-attention over the tokens.

    softmax(q k^T / sqrt(d)) v in each head, d the width of a token: the reference does
    not divide by the width of a head.

    Attributes:
        heads: number of heads.
        head_width: of each.
        dropout: probability, of what comes out.
        dtype: of the compute; the softmax is float32.
    """

    heads: int
    head_width: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n d"]:
        """Returns what each token gathered."""
        batch, tokens, width = x.shape
        inner = self.heads * self.head_width
        qkv = _linear(3 * inner, width, self.dtype, "to_qkv", use_bias=False)(x)
        qkv = qkv.reshape(batch, tokens, 3, self.heads, self.head_width)
        q, k, v = (_part(qkv, part, axis=2) for part in range(3))
        dots = jnp.einsum("bihd,bjhd->bhij", q, k) * width**-0.5
        weights = jax.nn.softmax(dots.astype(jnp.float32), axis=-1)
        out = jnp.einsum("bhij,bjhd->bihd", weights.astype(self.dtype), v)
        out = out.reshape(batch, tokens, inner)
        out = _linear(width, inner, self.dtype, "to_out_0")(out)
        return nn.Dropout(self.dropout)(out, deterministic=not train)


class FeedForward(nn.Module):
    """Two dense layers with a GELU between them, for each token by itself.

    Attributes:
        dropout: probability, after each of the two.
        dtype: of the compute.
    """

    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n d"]:
        """Returns the tokens, mapped."""
        width = x.shape[-1]
        x = _linear(_MLP * width, width, self.dtype, "net_0")(x)
        x = jax.nn.gelu(x, approximate=False)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = _linear(width, _MLP * width, self.dtype, "net_3")(x)
        return nn.Dropout(self.dropout)(x, deterministic=not train)


class PreNorm(nn.Module):
    """A layer behind a layer norm.

    Attributes:
        layer: name= -> the layer.
        dtype: of what the layer gets.
    """

    layer: Callable[..., nn.Module]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n d"]:
        """Returns what the layer makes of the normalised tokens."""
        x = nn.LayerNorm(epsilon=_EPSILON, dtype=jnp.float32, name="norm")(
            x.astype(jnp.float32)
        )
        return self.layer(name="fn")(x.astype(self.dtype), train)


class Residual(nn.Module):
    """A layer behind a layer norm, plus its input.

    Attributes:
        layer: name= -> the layer.
        dtype: of the compute.
    """

    layer: Callable[..., nn.Module]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n d"]:
        """Returns the sum."""
        return x + PreNorm(self.layer, self.dtype, name="fn")(x, train)


class Transformer(nn.Module):
    """Attention and feed-forward layers in turn.

    Attributes:
        layers: number of each, counted through trunk and neck.
        heads: of an attention layer.
        head_width: of each head.
        dropout: probability.
        dtype: of the compute.
        remat: recompute each layer's activations in the backward pass.
    """

    layers: range
    heads: int
    head_width: int
    dropout: float
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool) -> Float[Array, "b n d"]:
        """Returns the tokens after all layers."""

        def attention(name):
            sizes = (self.heads, self.head_width, self.dropout, self.dtype)
            return Attention(*sizes, name=name)

        def feed_forward(name):
            return FeedForward(self.dropout, self.dtype, name=name)

        block = rematerialised(Residual, self.remat)
        for index in self.layers:
            for part, layer in enumerate((attention, feed_forward)):
                x = block(layer, self.dtype, name=f"layers_{index}_{part}")(x, train)
        return x


class FaceTransformerTrunk(nn.Module):
    """Images to the patches' tokens that the last attention gets.

    Behind it only the class token is read: what the last layers make of the patches
    has no part in the feature. Nothing here is averaged over images, so there are no
    running statistics.

    Attributes:
        side: of a patch, in pixels: 8, or 12 for overlapping ones, 8 px apart.
        width: of a token.
        dropout: probability.
        layers: name= -> all layers but the last attention and feed-forward.
        dtype: of the compute; norms are float32.
    """

    side: int
    width: int
    dropout: float
    layers: Callable[..., Transformer]
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool
    ) -> tuple[Float[Array, "b p q d"], Float[Array, "b 1 d"]]:
        """Returns the patches' tokens as a map, and the class token."""
        width = self.width
        patches = PatchEmbedding(
            width, self.side, self.dtype, name="patch_to_embedding"
        )
        x = patches(images)
        batch, count, _ = x.shape
        token = self.param("cls_token", _NORMAL, (1, 1, width), jnp.float32)
        places = self.param(
            "pos_embedding", _NORMAL, (1, count + 1, width), jnp.float32
        )
        first = jnp.broadcast_to(token.astype(self.dtype), (batch, 1, width))
        x = jnp.concatenate([first, x], axis=1) + places.astype(self.dtype)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        x = self.layers(name="transformer")(x, train)
        side = math.isqrt(count)
        class_token = jax.lax.slice_in_dim(x, 0, 1, axis=1)
        x = jax.lax.slice_in_dim(x, 1, None, axis=1)
        return x.reshape(batch, side, side, width), class_token


class FaceTransformerNeck(nn.Module):
    """The last attention and feed-forward layer, then the class token, normalised.

    Attributes:
        layers: name= -> the last attention and feed-forward layer.
        dtype: of the compute; norms and the feature are float32.
    """

    layers: Callable[..., Transformer]
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b p q d"],
        train: bool,
        class_token: Float[Array, "b 1 d"],
    ) -> Float[Array, "b d"]:
        """Returns the features, float32, not normalised."""
        patches = x.astype(self.dtype).reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.concatenate([class_token, patches], axis=1)
        x = self.layers(name="transformer")(x, train)
        norm = nn.LayerNorm(epsilon=_EPSILON, dtype=jnp.float32, name="mlp_head_0")
        return norm(_part(x, 0, axis=1).astype(jnp.float32))


def build(
    side: int,
    depth: int = 20,
    heads: int = 8,
    head_width: int = 64,
    *,
    embedding_dim: int,
    dropout: float,
    dtype: jnp.dtype,
    remat: bool,
) -> Backbone:
    """Returns the transformer: images to the class token behind the last layer.

    Args:
        side: of a patch, in pixels: 8, or 12 for overlapping ones, 8 px apart.
        depth: layers of each kind, at least 1.
        heads: of an attention layer.
        head_width: of each head.
        embedding_dim: d, length of a feature and of a token; the reference has 512.
        dropout: probability, everywhere; the reference has 0.1.
        dtype: of the compute; norms and the feature are float32.
        remat: recompute each layer's activations in the backward pass.

    References:
        Zhong, Deng, "Face Transformer for Recognition", 2021, and its repository
        (zhongyy/Face-Transformer).
    """
    sizes = (heads, head_width, dropout, dtype, remat)
    before, last = (
        functools.partial(Transformer, layers, *sizes)
        for layers in (range(depth - 1), range(depth - 1, depth))
    )
    return Backbone(
        FaceTransformerTrunk(side, embedding_dim, dropout, before, dtype),
        FaceTransformerNeck(last, dtype),
    )


FACE_TRANSFORMER = BackboneEntry(functools.partial(build, 8))
FACE_TRANSFORMER_P12S8 = BackboneEntry(functools.partial(build, 12))
