"""2-D convolution whose gradient is also fast on a CPU.

XLA's CPU backend computes the input gradient of a strided convolution as a
convolution of the zero-stuffed output gradient: three quarters of the products are
with zeros. Two exact rewritings avoid that; benchmarks/backbone_step.py measures
them. Other backends take the plain convolution, whose gradients their libraries know.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw j o"],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Float[Array, "b p q o"]:
    """Returns the cross-correlation of x with the kernel, zero padded on all sides.

    Args:
        x: activations [b, h, w, i].
        kernel: weights [kh, kw, i / groups, o], of x's dtype.
        stride: step between output pixels, in both directions.
        padding: zeros added on each of the four sides, in pixels.
        groups: the channels are cut into this many independent parts.

    Returns:
        Activations [b, p, q, o], p = (h + 2 padding - kh) // stride + 1.

    Raises:
        ValueError: the channels of x and the kernel do not fit together.
    """
    if x.shape[-1] != kernel.shape[2] * groups:
        raise ValueError(
            f"x has {x.shape[-1]} channels, but the kernel {kernel.shape} "
            f"in {groups} groups takes {kernel.shape[2] * groups}"
        )
    plain = functools.partial(_plain, stride=stride, padding=padding, groups=groups)
    if groups == 1 and stride > 1 and kernel.shape[:2] == (1, 1) and padding == 0:
        cpu = functools.partial(_pointwise, stride=stride)
    elif groups == 1 and _has_phases(x.shape, kernel.shape, stride, padding):
        cpu = _halving
    else:
        return plain(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=cpu, default=plain)


def _plain(x, kernel, *, stride, padding, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def _pointwise(x, kernel, *, stride):
    """A strided 1x1 convolution only reads every stride-th pixel: take those first."""
    return _plain(x[:, ::stride, ::stride], kernel, stride=1, padding=0)


def _has_phases(x_shape, kernel_shape, stride, padding):
    even = x_shape[1] % 2 == 0 and x_shape[2] % 2 == 0
    return even and kernel_shape[:2] == (3, 3) and (stride, padding) == (2, 1)


@jax.custom_vjp
def _halving(x, kernel):
    """3x3, stride 2, padding 1 on even sides, with its input gradient by phases."""
    return _plain(x, kernel, stride=2, padding=1)


def _halving_forward(x, kernel):
    return _halving(x, kernel), (x, kernel)


def _halving_backward(residuals, gradient):
    x, kernel = residuals
    _, pull_kernel = jax.vjp(lambda k: _plain(x, k, stride=2, padding=1), kernel)
    return _input_gradient_by_phases(gradient, kernel), *pull_kernel(gradient)


_halving.defvjp(_halving_forward, _halving_backward)


def _input_gradient_by_phases(gradient, kernel):
    """Returns d loss / d x of `_halving`, from one small convolution per phase.

    Output pixel p is made from input rows 2p - 1, 2p, 2p + 1 by kernel rows 0, 1, 2.
    So an even input row 2u hears only from p = u through kernel row 1, and an odd one
    2u + 1 from p = u through row 2 and from p = u + 1 through row 0; columns likewise.
    """
    transposed = jnp.swapaxes(kernel, 2, 3)
    # Per phase: its kernel rows (or columns), zeros after the last output pixel.
    even, odd = (slice(1, 2), 0), (slice(None, None, -2), 1)

    def phase(rows, columns):
        return lax.conv_general_dilated(
            gradient,
            transposed[rows[0], columns[0]],
            window_strides=(1, 1),
            padding=((0, rows[1]), (0, columns[1])),
            dimension_numbers=_LAYOUT,
        )

    even_rows = jnp.stack([phase(even, even), phase(even, odd)], axis=3)
    odd_rows = jnp.stack([phase(odd, even), phase(odd, odd)], axis=3)
    b, p, q, _, channels = even_rows.shape
    interleaved = jnp.stack([even_rows, odd_rows], axis=2)
    return interleaved.reshape(b, 2 * p, 2 * q, channels)
