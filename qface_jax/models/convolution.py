"""2-D convolution whose gradient is also fast on a CPU.

XLA's CPU backend is slow at some of the convolutions that a convolution's gradient is
made of by default:

- The gradients have batch and channels in unusual places. XLA moves them to where its
  library wants them in the outermost computation only; within a loop (a scan) it falls
  back to code that is up to 75 times slower. Here they are moved beforehand.
- A grouped convolution and its gradients are slow everywhere. With few channels in a
  group they are sums of products, one for each place in the kernel, which
  `grouped_convolution` holds.
- The input gradient of a strided convolution is that of the zero-stuffed output
  gradient: three quarters of the products are with zeros. Here it has none.

All rewritings are exact. benchmarks/backbone_step.py measures them. Other backends take
the plain convolution, whose gradients their libraries know.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from qface_jax.models import grouped_convolution

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_plain_only = contextvars.ContextVar("plain_only", default=False)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Within it `conv2d` is traced as `jax.lax.conv_general_dilated` and nothing else.

    For programs that leave this package, whose readers know JAX's own operations only.
    What was traced before, and is kept by `jax.jit`, stays as it is.
    """
    before = _plain_only.set(True)
    try:
        yield
    finally:
        _plain_only.reset(before)


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
    sizes = {"stride": stride, "padding": padding, "groups": groups}
    if _plain_only.get():
        return _plain(x, kernel, **sizes)
    convolve = functools.partial(_convolution.bind, **sizes)
    if stride > 1 and _is_pointwise(kernel.shape, padding, groups):
        sliced = functools.partial(_sliced, stride=stride)
        return lax.platform_dependent(x, kernel, cpu=sliced, default=convolve)
    return convolve(x, kernel)


def every_nth_pixel(x: Float[Array, "b h w c"], n: int) -> Float[Array, "b p q c"]:
    """Returns the first of every n rows and columns.

    On a TPU as a part of a reshaped map, which is read where it is used: a strided
    slice is written and read again.

    Args:
        x: activations.
        n: step in pixels, at least 1.
    """
    b, h, w, c = x.shape

    def sliced(x):
        for axis in (1, 2):  # no gather, see face_transformer
            x = lax.slice_in_dim(x, 0, None, n, axis)
        return x

    def part(x):
        x = x.reshape(b, h // n, n, w // n, n, c)
        for axis in (2, 4):
            x = lax.slice_in_dim(x, 0, 1, 1, axis)
        return x.reshape(b, h // n, w // n, c)

    if _plain_only.get() or h % n or w % n:
        return sliced(x)
    return lax.platform_dependent(x, tpu=part, default=sliced)


def _plain(x, kernel, *, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def _on_cpu(x, kernel, *, stride, padding, groups):
    grouped = grouped_convolution.fits(kernel.shape, groups)
    convolve = grouped_convolution.forward if grouped else _plain
    return convolve(x, kernel, stride=stride, padding=padding, groups=groups)


def _is_pointwise(kernel_shape, padding, groups):
    return kernel_shape[:2] == (1, 1) and padding == 0 and groups == 1


def _sliced(x, kernel, *, stride):
    """A strided 1x1 convolution only reads every stride-th pixel: take those first."""
    seen = x[:, ::stride, ::stride]
    return _convolution.bind(seen, kernel, stride=1, padding=0, groups=1)


def _shape(x, kernel, **sizes):
    out = jax.eval_shape(functools.partial(_plain, **sizes), *map(_like, (x, kernel)))
    return x.update(shape=out.shape, dtype=out.dtype, weak_type=False)


def _like(aval):
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _over_groups(arguments, axes, **sizes):
    """vmap: with one kernel for all, the axis joins that of the images.

    So the gradient of a vmapped convolution is that of one convolution over all images.
    The rule of a custom_vjp would be vmapped itself: a weight gradient for each place
    on the axis, as a grouped convolution, which takes twice as long.
    """
    x, kernel = arguments
    if axes[1] is not None:
        return jax.vmap(functools.partial(_plain, **sizes), axes)(x, kernel), 0
    x = jnp.moveaxis(x, axes[0], 0)
    y = _convolution.bind(x.reshape(-1, *x.shape[2:]), kernel, **sizes)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


def _input_gradient(gradient, x, kernel, **sizes):
    shape = x.aval.shape

    def plain(gradient, kernel):
        def forward(x):
            return _plain(x, kernel, **sizes)

        return jax.linear_transpose(forward, _like(x.aval))(gradient)[0]

    if grouped_convolution.fits(kernel.shape, sizes["groups"]):
        grouped = grouped_convolution.input_gradient
        cpu = functools.partial(grouped, shape=shape, **sizes)
    elif sizes["groups"] > 1:
        return plain(gradient, kernel)
    elif _has_phases(shape, kernel.shape, **sizes):
        cpu = _input_gradient_by_phases
    else:
        cpu = functools.partial(_input_gradient_moved, shape=shape, **sizes)
    return lax.platform_dependent(gradient, kernel, cpu=cpu, default=plain)


def _kernel_gradient(gradient, x, kernel, *, stride, padding, groups):
    shape = kernel.aval.shape
    sizes = {"stride": stride, "padding": padding, "groups": groups}

    def plain(gradient, x):
        def forward(kernel):
            return _plain(x, kernel, **sizes)

        return jax.linear_transpose(forward, _like(kernel.aval))(gradient)[0]

    if stride == 1 and _is_pointwise(shape, padding, groups):
        cpu = _kernel_gradient_pointwise
    elif groups == 1:
        cpu = functools.partial(_kernel_gradient_moved, shape=shape, **sizes)
    elif grouped_convolution.fits(shape, groups):
        grouped = grouped_convolution.kernel_gradient
        cpu = functools.partial(grouped, shape=shape, **sizes)
    else:
        return plain(gradient, x)
    return lax.platform_dependent(gradient, x, cpu=cpu, default=plain)


# Unlike a custom_vjp, a primitive's gradient is taken after vmap (see `_over_groups`).
_convolution = Primitive("qface_convolution")
_convolution.def_impl(
    jax.jit(_convolution.bind, static_argnames=("stride", "padding", "groups"))
)
_convolution.def_abstract_eval(_shape)
mlir.register_lowering(_convolution, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(
    _convolution, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu"
)
batching.primitive_batchers[_convolution] = _over_groups
ad.defbilinear(_convolution, _input_gradient, _kernel_gradient)


def _input_gradient_moved(gradient, kernel, *, shape, stride, padding, groups):
    """The convolution with the turned kernel, its outputs in its inputs' place."""
    before = [side - 1 - padding for side in kernel.shape[:2]]
    behind = [
        length + padding - 1 - stride * (pixels - 1)
        for length, pixels in zip(shape[1:3], gradient.shape[1:3], strict=True)
    ]
    return lax.conv_general_dilated(
        gradient,
        jnp.swapaxes(kernel[::-1, ::-1], 2, 3),
        window_strides=(1, 1),
        padding=list(zip(before, behind, strict=True)),
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )


def _kernel_gradient_pointwise(gradient, x):
    return jnp.einsum("bpqi,bpqo->io", x, gradient)[None, None]


def _kernel_gradient_moved(gradient, x, *, shape, stride, padding, groups):
    """The convolution of x with the output gradient, images in the channels' place."""
    # Behind the map there are as many zeros as the last output pixel's window reads.
    behind = [
        stride * (pixels - 1) + side - length - padding
        for pixels, side, length in zip(
            gradient.shape[1:3], shape[:2], x.shape[1:3], strict=True
        )
    ]
    moved = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=[(padding, zeros) for zeros in behind],
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return moved.transpose(1, 2, 0, 3)


def _has_phases(x_shape, kernel_shape, *, stride, padding, groups):
    even = x_shape[1] % 2 == 0 and x_shape[2] % 2 == 0
    return (
        even and kernel_shape[:2] == (3, 3) and (stride, padding, groups) == (2, 1, 1)
    )


def _input_gradient_by_phases(gradient, kernel):
    """Returns d loss / d x at stride 2, from one small convolution per phase.

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
