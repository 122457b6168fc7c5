"""Layers that all backbones share: convolution, batch norm, PReLU, initial values.

Parameters are float32 whatever the compute dtype. Only convolution and dense weights
are called "kernel", which is how the optimizer knows what to decay.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qface_jax.models.convolution import conv2d

Initializer = Callable[..., jax.Array]

# torch.nn.init.kaiming_normal_(mode="fan_out", nonlinearity="relu"); not truncated.
KAIMING_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# torch.nn.Linear's own: uniform within 1 / sqrt(fan_in).
TORCH_LINEAR = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def uniform_within(bound: float) -> Initializer:
    """Returns an initializer that draws uniformly from (-bound, bound)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """Convolution without bias; the padding keeps the size at stride 1.

    Attributes:
        channels: output channels.
        side: of the square kernel, in pixels.
        stride: step between output pixels.
        groups: independent channel groups.
        padding: zeros on each side in pixels; None: (side - 1) // 2.
        dtype: of the compute and the output.
        kernel_init: initial values, shape [side, side, in / groups, channels].
    """

    channels: int
    side: int = 3
    stride: int = 1
    groups: int = 1
    padding: int | None = None
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = KAIMING_FAN_OUT

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b p q o"]:
        """Returns the convolution of x."""
        shape = (self.side, self.side, x.shape[-1] // self.groups, self.channels)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        return conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=(self.side - 1) // 2 if self.padding is None else self.padding,
            groups=self.groups,
        )


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's arithmetic, over all axes but the last.

    The statistics are float32 and those of all rows it is given: under jit with a batch
    sharded over a mesh, XLA sums over all devices. PyTorch DDP's plain BatchNorm uses
    each GPU's own samples; `model.batch_norm_groups` 0 gives it those alone.

    As in PyTorch the batch is normalised with the biased variance, and the running
    variance is an average of the unbiased one (Flax's BatchNorm keeps the biased one,
    which in the last layer, over b values, is off by 1 / b).

    Attributes:
        use_scale: learn the scale; else it is 1.
        use_bias: learn the bias; else it is 0.
        momentum: weight of the old running value (PyTorch writes 1 - momentum: 0.1).
        epsilon: added to the variance.
        dtype: of the output.
    """

    use_scale: bool = True
    use_bias: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], train: bool) -> Float[Array, "*b c"]:
        """Returns x normalised by its own (train) or by the running statistics."""
        channels = (x.shape[-1],)
        running_mean = self.variable(
            "batch_stats", "mean", jnp.zeros, channels, jnp.float32
        )
        running_var = self.variable(
            "batch_stats", "var", jnp.ones, channels, jnp.float32
        )
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale = self.param("scale", ones, channels) if self.use_scale else None
        bias = self.param("bias", zeros, channels) if self.use_bias else None

        if train:
            mean, var = batch_moments(x, running_mean.value)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                keep, new = self.momentum, 1 - self.momentum
                running_mean.value = keep * running_mean.value + new * mean
                running_var.value = keep * running_var.value + new * unbiased
        else:
            mean, var = running_mean.value, running_var.value

        factor = jax.lax.rsqrt(var + self.epsilon)
        factor = factor if scale is None else factor * scale
        offset = -mean * factor
        offset = offset if bias is None else offset + bias
        normalised = x.astype(jnp.float32) * _over(x, factor) + _over(x, offset)
        return normalised.astype(self.dtype)


def batch_moments(
    x: Float[Array, "*b c"], near: Float[Array, " c"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Returns mean and biased variance over all axes but the last, in float32.

    Both come from one pass over a map, as moments about `near`, since an accelerator
    waits for its memory there; the compiler takes them while a convolution writes its
    output. A variance loses the digits by which (mean - near)^2 exceeds it. Rows of
    features are few and short: they are read once more, for their own mean.

    Args:
        x: activations; rows of features have one axis besides the last.
        near: of a map, values near its mean, such as the running ones; no gradient.
    """
    axes = tuple(range(x.ndim - 1))
    values = x.astype(jnp.float32)
    near = jax.lax.stop_gradient(values.mean(0) if x.ndim == 2 else near)
    values -= _over(x, near)
    first = values.mean(axes)
    second = jnp.square(values).mean(axes)
    return near + first, jnp.maximum(second - jnp.square(first), 0)


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), one learned slope per channel, from 0.25."""

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Returns the activation of x, in x's dtype."""
        init = nn.initializers.constant(0.25)
        slope = self.param("negative_slope", init, (x.shape[-1],), jnp.float32)
        # In float32, so that the sums of the slope's gradient are.
        values = x.astype(jnp.float32)
        return jnp.where(values >= 0, values, values * _over(x, slope)).astype(x.dtype)


def _over(x, vector):
    """Returns a per-channel vector shaped to act on x."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def rematerialised(block: type[nn.Module], remat: bool) -> type[nn.Module]:
    """Returns the block class, recomputing its activations in the backward pass.

    Args:
        block: a module class called as block(...)(x, train).
        remat: False returns the class as it is.
    """
    return nn.remat(block, static_argnums=(2,)) if remat else block


class FlatNeck(nn.Module):
    """All pixels of the map through a linear layer and a batch norm, in float32.

    Attributes:
        embedding_dim: d, length of a feature.
        dropout: probability, before the linear layer.
        linear: name of the linear layer.
        norm: name of the batch norm.
        kernel_init: initial values of the linear layer's kernel.
        bias_bound: inputs -> largest initial bias; None: the biases start at 0.
        norm_bias: learn the batch norm's bias; its scale is 1.
    """

    embedding_dim: int
    dropout: float
    linear: str = "fc"
    norm: str = "features"
    kernel_init: Initializer = KAIMING_FAN_OUT
    bias_bound: Callable[[int], float] | None = None
    norm_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b d"]:
        """Returns the features, float32, not normalised."""
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        bias_init = nn.initializers.zeros
        if self.bias_bound is not None:
            bias_init = uniform_within(self.bias_bound(x.shape[-1]))
        x = nn.Dense(
            self.embedding_dim,
            kernel_init=self.kernel_init,
            bias_init=bias_init,
            name=self.linear,
        )(x)
        norm = BatchNorm(use_scale=False, use_bias=self.norm_bias, name=self.norm)
        return norm(x, train)


def arcface_neck(embedding_dim: int, dropout: float) -> FlatNeck:
    """Returns the neck of ArcFace's networks, initial values as PyTorch draws them.

    Behind the map's batch norm: dropout, linear layer, batch norm.

    Args:
        embedding_dim: d, length of a feature.
        dropout: probability, before the linear layer.

    References:
        Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face
        Recognition", CVPR 2019, section 3.1.
    """
    return FlatNeck(
        embedding_dim,
        dropout,
        kernel_init=TORCH_LINEAR,
        bias_bound=lambda inputs: 1 / math.sqrt(inputs),
    )
