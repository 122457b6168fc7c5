"""Convolution with few channels in a group, as elementwise sums, for CPUs.

XLA's CPU backend takes 20 to 75 times as long for a depthwise convolution as for what
stands here: one product of whole maps for each place in the kernel, which it joins into
one pass. The input gradient is such a convolution again, of the output gradient spread
out by the stride. The kernel's gradient goes through the output row by row, and adds up
the columns and images at the end: a sum over all pixels at once reads them channel by
channel, which takes 14 times as long. All is exact; products of bfloat16 are summed in
float32.
"""

import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

FEW = 4  # products of a group's channels, in times out, up to which this is faster


def fits(kernel_shape: tuple[int, ...], groups: int) -> bool:
    """Returns whether the groups have so few channels that sums are faster.

    Args:
        kernel_shape: [kh, kw, i, o]: i channels in of a group, o out of all groups.
        groups: how many.
    """
    return groups > 1 and kernel_shape[2] * kernel_shape[3] // groups <= FEW


def forward(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw j o"],
    *,
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "b p q o"]:
    """Returns the convolution; arguments as in `convolution.conv2d`."""
    pixels = [
        (length + 2 * padding - side) // stride + 1
        for length, side in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    ]
    zeros = (padding, padding, 0)
    padded = _pad(x, (zeros, zeros))
    cut = _by_group(kernel, groups)
    return _over_places(padded, cut, pixels, stride=stride)


def input_gradient(
    gradient: Float[Array, "b p q o"],
    kernel: Float[Array, "kh kw j o"],
    *,
    shape: tuple[int, ...],
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "b h w i"]:
    """Returns d loss / d x.

    Args:
        gradient: d loss / d output.
        kernel: as in `forward`.
        shape: of x.
        stride: as in `forward`.
        padding: as in `forward`.
        groups: as in `forward`.
    """
    spread = []
    for length, side, pixels in zip(
        shape[1:3], kernel.shape[:2], gradient.shape[1:3], strict=True
    ):
        behind = length + padding - 1 - stride * (pixels - 1)
        spread.append((side - 1 - padding, behind, stride - 1))
    # In and out change places, and the kernel is turned by half.
    turned = jnp.swapaxes(_by_group(kernel, groups)[::-1, ::-1], 3, 4)
    return _over_places(_pad(gradient, spread), turned, shape[1:3], stride=1)


def kernel_gradient(
    gradient: Float[Array, "b p q o"],
    x: Float[Array, "b h w i"],
    *,
    shape: tuple[int, ...],
    stride: int,
    padding: int,
    groups: int,
) -> Float[Array, "kh kw j o"]:
    """Returns d loss / d kernel.

    Args:
        gradient: d loss / d output.
        x: as in `forward`.
        shape: of the kernel.
        stride: as in `forward`.
        padding: as in `forward`.
        groups: as in `forward`.
    """
    b, rows, columns, _ = gradient.shape
    sides, inside, outside = shape[:2], shape[2], shape[3] // groups
    zeros = (padding, padding, 0)
    padded = _pad(x, (zeros, zeros))
    wide = jnp.float32 if x.dtype.itemsize < 4 else x.dtype

    def add_row(row, sums):
        back = lax.dynamic_index_in_dim(gradient, row, 1, keepdims=False)
        back = back.astype(wide).reshape(b, columns, groups, outside)
        products = []
        for place in range(sides[0]):
            line = lax.dynamic_index_in_dim(
                padded, row * stride + place, 1, keepdims=False
            )
            for first in range(sides[1]):
                seen = line[:, first : first + stride * (columns - 1) + 1 : stride]
                seen = seen.astype(wide).reshape(b, columns, groups, inside)
                products += [
                    seen[..., i] * back[..., o]
                    for i, o in itertools.product(range(inside), range(outside))
                ]
        return tuple(a + p for a, p in zip(sums, products, strict=True))

    count = sides[0] * sides[1] * inside * outside
    nothing = jnp.zeros((b, columns, groups), wide)
    sums = lax.fori_loop(0, rows, add_row, (nothing,) * count)
    # [kh, kw, i, o, groups] -> [kh, kw, i, groups * o]
    gradients = jnp.stack([total.sum((0, 1)) for total in sums])
    gradients = gradients.reshape(*sides, inside, outside, groups)
    return jnp.swapaxes(gradients, 3, 4).reshape(shape).astype(x.dtype)


def _pad(x, sides):
    """x with zeros before, behind and between its rows and columns."""
    config = ((0, 0, 0), *sides, (0, 0, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _by_group(kernel, groups):
    """[kh, kw, i, groups * o] -> [kh, kw, groups, i, o]."""
    *sides, inside, outside = kernel.shape
    split = kernel.reshape(*sides, inside, groups, outside // groups)
    return jnp.swapaxes(split, 2, 3)


def _over_places(padded, kernel, pixels, *, stride):
    """The sum over the places of the kernel of what each contributes to every pixel.

    Args:
        padded: map with its zeros, [b, h, w, groups * i].
        kernel: [kh, kw, groups, i, o].
        pixels: sides of the output.
        stride: step between its pixels.
    """
    b, channels = padded.shape[0], padded.shape[3]
    wide = jnp.float32 if padded.dtype.itemsize < 4 else padded.dtype
    cut = kernel.astype(wide)
    groups, inside, outside = cut.shape[2:]
    pixels_wide = padded.astype(wide)

    def seen(row, column):
        ends = [
            first + stride * (count - 1) + 1
            for first, count in zip((row, column), pixels, strict=True)
        ]
        window = lax.slice(
            pixels_wide,
            (0, row, column, 0),
            (b, *ends, channels),
            (1, stride, stride, 1),
        )
        return window if inside == 1 else window.reshape(b, *pixels, groups, inside)

    def place(row, column):
        window = seen(row, column)
        weights = cut[row, column].reshape(1, 1, 1, groups, inside, outside)
        outputs = []
        for o in range(outside):
            if inside == 1:
                outputs.append(window * weights[..., 0, o])
            else:
                products = [window[..., i] * weights[..., i, o] for i in range(inside)]
                outputs.append(sum(products[1:], products[0]))
        return outputs

    sums = None
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            outputs = place(row, column)
            if sums is None:
                sums = outputs
            else:
                sums = [a + part for a, part in zip(sums, outputs, strict=True)]
    joined = sums[0] if outside == 1 else jnp.stack(sums, axis=-1)
    return joined.reshape(b, *pixels, groups * outside).astype(padded.dtype)
