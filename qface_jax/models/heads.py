"""Heads beside a backbone: what is learned from its features or its feature map.

The supplement of the recognizability paper names the two modules and shows where they
stand; their sizes are readings, and stated where they are chosen.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.blocks import TORCH_LINEAR, uniform_within
from qface_jax.models.convolution import conv2d

REGRESSION, ATTENTION = "prm", "pam"  # names of their parameters in a state's head
Map = Float[Array, "b h w c"]


class Head(NamedTuple):
    """A head as two pure functions.

    Attributes:
        init: key -> params, float32.
        apply: (params, features or feature map, ...) -> outputs, float32.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., Any]


def perceptibility_regression(embedding_dim: int, *, dropout: float) -> Head:
    """Returns the module that predicts how well a face can be recognised.

    xi_hat = <w, dropout(f)> + b, of the feature f as it is given.

    Args:
        embedding_dim: d, length of a feature, at least 1.
        dropout: probability that a number of the feature is dropped in training, in
            [0, 1); the paper has 0.9. What is left is divided by 1 - dropout.

    Returns:
        init: key -> {"kernel": [d, 1], "bias": [1]}, drawn as torch.nn.Linear draws.
        apply: (params, features [b, d], *, key=None) -> xi_hat [b]; `key` draws the
            dropout, without it nothing is dropped.

    References:
        Chai, Ng, Low, Park, Teoh, "Recognizability Embedding Enhancement for Very
        Low-Resolution Face Recognition and Quality Estimation", CVPR 2023, supplement,
        Table 5: the perceptibility regression module.
    """
    return Head(
        init=functools.partial(_regression_init, embedding_dim),
        apply=functools.partial(_regression, dropout),
    )


def perceptibility_attention(
    map_shape: tuple[int, int, int],
    embedding_dim: int,
    *,
    reduction: int = 16,
    kernel_side: int = 7,
) -> Head:
    """Returns the module that shows which pixels make a face recognisable.

    Of a feature map A, [h, w, c], with s the logistic function:

        channel = s(P(mean over pixels of A) + P(maximum over pixels of A)), [c]
        spatial = s(K * [mean over channels of A', maximum over channels of A']), [h, w]
        projection = W mean over pixels of (spatial A') + v, [d]

    where A' = channel A, P is c -> max(c / reduction, 1) -> c with ReLU between, the
    same for both, and K a convolution. This is a reading: the paper says "channel and
    spatial attention" and shows the spatial one.

    Args:
        map_shape: height, width, channels of the feature map, each at least 1.
        embedding_dim: d, length of the projection.
        reduction: channels per number between the two layers of P, at least 1.
        kernel_side: of K, in pixels of the map, odd; the map keeps its size.

    Returns:
        init: key -> params.
        apply: (params, feature map [b, h, w, c]) -> (projection [b, d], spatial
            attention [b, h, w] in (0, 1)).

    Raises:
        ValueError: an even `kernel_side`, or a number below 1.

    References:
        Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018,
        equations 2 and 3. Chai, Ng, Low, Park, Teoh, "Recognizability Embedding
        Enhancement for Very Low-Resolution Face Recognition and Quality Estimation",
        CVPR 2023: the perceptibility attention module.
    """
    if kernel_side < 1 or kernel_side % 2 == 0:
        raise ValueError(f"kernel_side: got {kernel_side}, expected an odd number")
    smallest = min(*map_shape, embedding_dim, reduction)
    if smallest < 1:
        raise ValueError(
            f"got map_shape {map_shape}, embedding_dim {embedding_dim}, reduction "
            f"{reduction}; expected numbers of at least 1"
        )
    module = _PerceptibilityAttention(embedding_dim, reduction, kernel_side)
    return Head(
        init=functools.partial(_attention_init, module, map_shape),
        apply=functools.partial(_attention, module, map_shape),
    )


def _regression_init(embedding_dim, key):
    kernel_key, bias_key = jax.random.split(key)
    bound = uniform_within(1 / math.sqrt(embedding_dim))
    return {
        "kernel": TORCH_LINEAR(kernel_key, (embedding_dim, 1), jnp.float32),
        "bias": bound(bias_key, (1,)),
    }


def _regression(
    dropout: float,
    params: dict[str, Array],
    features: Float[Array, "b d"],
    *,
    key: Array | None = None,
) -> Float[Array, " b"]:
    if key is not None and dropout > 0:
        kept = jax.random.bernoulli(key, 1 - dropout, features.shape)
        features = jnp.where(kept, features / (1 - dropout), 0.0)
    predicted = jnp.einsum("bd,do->bo", features, params["kernel"])
    return (predicted + params["bias"][None, :])[:, 0]


def _linear(width, inputs, name):
    """A dense layer with PyTorch's initial values."""
    bound = uniform_within(1 / math.sqrt(inputs))
    return nn.Dense(width, kernel_init=TORCH_LINEAR, bias_init=bound, name=name)


class _ChannelAttention(nn.Module):
    """A weight in (0, 1) for each channel, from its mean and its maximum."""

    reduction: int

    @nn.compact
    def __call__(self, x: Map) -> Float[Array, "b c"]:
        channels = x.shape[-1]
        hidden = max(channels // self.reduction, 1)
        first = _linear(hidden, channels, "squeeze")
        second = _linear(channels, hidden, "expand")
        pooled = (x.mean((1, 2)), x.max((1, 2)))
        mean, largest = (second(jax.nn.relu(first(vector))) for vector in pooled)
        return jax.nn.sigmoid(mean + largest)


class _SpatialAttention(nn.Module):
    """A weight in (0, 1) for each pixel, from its channels' mean and maximum."""

    kernel_side: int

    @nn.compact
    def __call__(self, x: Map) -> Float[Array, "b h w"]:
        side = self.kernel_side
        kernel = self.param("kernel", TORCH_LINEAR, (side, side, 2, 1), jnp.float32)
        pooled = jnp.stack([x.mean(-1), x.max(-1)], axis=-1)
        weights = conv2d(pooled, kernel, stride=1, padding=side // 2, groups=1)
        return jax.nn.sigmoid(weights[..., 0])


class _PerceptibilityAttention(nn.Module):
    """Channel attention, then spatial attention, then the projection of the mean."""

    embedding_dim: int
    reduction: int
    kernel_side: int

    @nn.compact
    def __call__(
        self, feature_map: Map
    ) -> tuple[Float[Array, "b d"], Float[Array, "b h w"]]:
        weights = _ChannelAttention(self.reduction, name="channel")(feature_map)
        x = feature_map * weights[:, None, None, :]
        attention = _SpatialAttention(self.kernel_side, name="spatial")(x)
        pooled = (x * attention[..., None]).mean((1, 2))
        project = _linear(self.embedding_dim, x.shape[-1], "projection")
        return project(pooled), attention


def _attention_init(module, map_shape, key):
    return module.init(key, jnp.zeros((1, *map_shape), jnp.float32))["params"]


def _attention(
    module: nn.Module, map_shape: tuple[int, int, int], params: Any, feature_map: Map
) -> tuple[Float[Array, "b d"], Float[Array, "b h w"]]:
    if feature_map.shape[1:] != map_shape:
        raise ValueError(
            f"feature map of shape {list(feature_map.shape)}, expected "
            f"[b, {', '.join(map(str, map_shape))}] as the attention was made for"
        )
    return module.apply({"params": params}, feature_map)
