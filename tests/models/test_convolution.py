"""conv2d against XLA's own convolution: values and both gradients."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose

from qface_jax.models.convolution import conv2d, every_nth_pixel


def reference(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


CASES = {
    "3x3": ((2, 6, 8, 4), 3, 1, 1, 1),
    "3x3 halving, by phases": ((2, 6, 8, 4), 3, 2, 1, 1),
    "3x3 halving to one pixel": ((2, 2, 2, 4), 3, 2, 1, 1),
    "3x3 halving, odd side": ((2, 7, 8, 4), 3, 2, 1, 1),
    "3x3 stride 2, no padding": ((2, 6, 8, 4), 3, 2, 0, 1),
    "1x1 stride 2, sliced": ((2, 6, 8, 4), 1, 2, 0, 1),
    "1x1 stride 2, odd side": ((2, 7, 5, 4), 1, 2, 0, 1),
    "1x1 stride 3, sliced": ((2, 7, 8, 4), 1, 3, 0, 1),
    "depthwise": ((2, 6, 8, 4), 3, 1, 1, 4),
    "depthwise halving": ((2, 6, 8, 4), 3, 2, 1, 4),
    "1x1": ((2, 6, 8, 4), 1, 1, 0, 1),
    "1x1, padded": ((2, 6, 8, 4), 1, 1, 1, 1),
    "two groups": ((2, 6, 8, 4), 3, 1, 1, 2),
    "groups of two by two, halving": ((2, 6, 8, 8), 3, 2, 1, 4),
    "all of the map": ((2, 7, 7, 4), 7, 1, 0, 4),
}


def arrays(case):
    """x, kernel and output gradient of a case, and its sizes."""
    shape, side, stride, padding, groups = CASES[case]
    draw = np.random.default_rng(0).standard_normal
    x = draw(shape, np.float32)
    kernel = draw((side, side, shape[-1] // groups, 8), np.float32)
    pixels = [(length + 2 * padding - side) // stride + 1 for length in shape[1:3]]
    gradient = draw((shape[0], *pixels, 8), np.float32)
    return (x, kernel, gradient), (stride, padding, groups)


def ours(x, kernel, stride, padding, groups):
    return conv2d(x, kernel, stride=stride, padding=padding, groups=groups)


def pulled(convolve, sizes, x, kernel, gradient):
    """Value and both gradients."""
    value, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, *sizes), x, kernel)
    return value, *pull(gradient)


def assert_all_close(got, expected, tolerance=1e-5):
    for result, theirs in zip(got, expected, strict=True):
        assert result.shape == theirs.shape
        assert_allclose(
            result, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max()
        )


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    operands, sizes = arrays(case)
    got = jax.jit(partial(pulled, ours, sizes))(*operands)
    expected = jax.jit(partial(pulled, reference, sizes))(*operands)
    assert {leaf.dtype for leaf in got} == {jnp.dtype("float32")}
    assert_all_close(got, expected)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_float64(case):
    """Both gradients by the chain rule, one product after another in float64."""
    (x, kernel, gradient), (stride, padding, groups) = arrays(case)
    _, *got = pulled(ours, (stride, padding, groups), x, kernel, gradient)
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    wide = np.pad(x.astype(np.float64), around)
    to_x, to_kernel = np.zeros_like(wide), np.zeros(kernel.shape)
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    for row, column, group in np.ndindex(*kernel.shape[:2], groups):
        i = slice(group * inputs, (group + 1) * inputs)
        o = slice(group * outputs, (group + 1) * outputs)
        rows = slice(row, row + stride * (gradient.shape[1] - 1) + 1, stride)
        columns = slice(column, column + stride * (gradient.shape[2] - 1) + 1, stride)
        seen, back = wide[:, rows, columns, i], gradient[..., o].astype(np.float64)
        to_kernel[row, column, :, o] = np.einsum("bpqi,bpqo->io", seen, back)
        weights = kernel[row, column, :, o]
        to_x[:, rows, columns, i] += np.einsum("bpqo,io->bpqi", back, weights)
    height, width = x.shape[1:3]
    to_x = to_x[:, padding : padding + height, padding : padding + width]
    assert_all_close(got, (to_x, to_kernel), 2e-6)


@pytest.mark.parametrize("case", CASES)
def test_in_a_recomputed_loop(case):
    """As accumulation runs it: the gradient of a scan over recomputed parts."""
    (x, kernel, gradient), sizes = arrays(case)
    images, gradients = np.stack([x, 2 * x]), np.stack([gradient, 3 - gradient])

    def through(convolve, images, kernel, gradients):
        def loss(images, kernel):
            def part(total, one):
                return total + (convolve(one[0], kernel, *sizes) * one[1]).sum(), None

            part = jax.checkpoint(part, prevent_cse=False)
            return jax.lax.scan(part, jnp.zeros(()), (images, gradients))[0]

        return jax.grad(loss, (0, 1))(images, kernel)

    got = jax.jit(partial(through, ours))(images, kernel, gradients)
    assert_all_close(
        got, jax.jit(partial(through, reference))(images, kernel, gradients)
    )


@pytest.mark.parametrize("case", CASES)
def test_under_vmap(case):
    """One kernel for all; one each; and a gradient for each, of one kernel for all."""
    (x, kernel, gradient), sizes = arrays(case)
    xs, kernels = np.stack([x, 2 - x, x * x]), np.stack([kernel, -kernel, 3 * kernel])
    gradients = np.stack([gradient, 1 - gradient, gradient * gradient])

    def all_three(convolve, xs, kernel, kernels, gradients):
        def one(x, kernel):
            return convolve(x, kernel, *sizes)

        shared, pull = jax.vjp(lambda x, k: jax.vmap(one, (0, None))(x, k), xs, kernel)
        alone, pull_alone = jax.vjp(jax.vmap(one), xs, kernels)
        each = jax.vmap(partial(pulled, convolve, sizes), (0, None, 0))
        one_by_one = each(xs, kernel, gradients)
        return (shared, *pull(gradients), alone, *pull_alone(gradients), *one_by_one)

    operands = (xs, kernel, kernels, gradients)
    got = jax.jit(partial(all_three, ours))(*operands)
    assert_all_close(got, jax.jit(partial(all_three, reference))(*operands))


def test_forward_mode_and_second_derivatives():
    (x, kernel, _), sizes = arrays("3x3 halving, by phases")

    def second(convolve, x, kernel):
        def loss(kernel):
            return jnp.sin(convolve(x, kernel, *sizes)).sum()

        return jax.jvp(jax.grad(loss), (kernel,), (jnp.ones_like(kernel),))

    got = second(ours, x, kernel)
    assert_all_close(got, second(reference, x, kernel))


def compiled(case, wrap):
    """The text of the program that XLA makes of the gradient of a wrapped conv2d."""
    (x, kernel, _), sizes = arrays(case)

    def loss(x, kernel):
        return jnp.sin(wrap(lambda x: ours(x, kernel, *sizes))(x)).sum()

    return jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile().as_text()


@pytest.mark.parametrize(
    "case", ["3x3", "3x3 halving, by phases", "3x3 halving, odd side"]
)
def test_every_convolution_in_a_loop_is_in_the_layout_of_the_library(case):
    """XLA rearranges the others in the outermost computation alone."""

    def in_loop(convolve):
        return lambda x: jax.lax.map(convolve, jnp.stack([x, x + 1]))

    text = compiled(case, in_loop)
    layouts = re.findall(r"convolution\(.*dim_labels=([^, ]+)", text)
    assert " while(" in text
    assert set(layouts) == {"b01f_01io->b01f"}


def test_vmap_makes_no_grouped_convolution():
    def in_groups(convolve):
        return lambda x: jax.vmap(convolve)(jnp.stack([x, x + 1]))

    for case in ("3x3", "3x3 halving, by phases"):
        assert "feature_group_count" not in compiled(case, in_groups)


def test_a_sharded_batch_adds_up_the_gradient_and_exchanges_nothing_else():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sizes = ("f32[3,3,4,8]", "f32[4,3,3,8]")
    x = jax.device_put(
        np.ones((16, 6, 8, 4), np.float32), NamedSharding(mesh, P("data"))
    )
    kernel = jax.device_put(np.ones((3, 3, 4, 8), np.float32), NamedSharding(mesh, P()))
    for stride in (1, 2):

        def loss(x, kernel, stride=stride):
            y = conv2d(x, kernel, stride=stride, padding=1)
            return jnp.sin(y).sum()

        gradient = jax.jit(jax.grad(loss, (0, 1)))
        text = gradient.lower(x, kernel).compile().as_text()
        operations = re.findall(
            r"= \(?(\w+\[[\d,]*\]).*? (all-gather|all-to-all|collective-permute|"
            r"all-reduce|reduce-scatter)(?:-start)?\(",
            text,
        )
        assert len(operations) == 1, operations
        assert operations[0][0] in sizes and operations[0][1] == "all-reduce"


def test_halving_gradient_has_no_dilated_input():
    """The rewriting is really in the program compiled for a CPU."""

    def loss(x, kernel):
        return conv2d(x, kernel, stride=2, padding=1).sum()

    shapes = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 4, 4))
    text = jax.jit(jax.grad(loss)).lower(*shapes).as_text()
    assert "stablehlo.convolution" in text
    assert "lhs_dilate = [2, 2]" not in text


def test_other_platforms_take_the_plain_convolution():
    def loss(x, kernel):
        return jnp.sin(conv2d(x, kernel, stride=2, padding=1)).sum()

    shapes = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 4, 4))
    traced = jax.jit(jax.grad(loss, (0, 1))).trace(*shapes)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("lhs_dilate = [2, 2]") == 1
    assert "stablehlo.transpose" not in text
    assert "stablehlo.transpose" in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize(
    "case", ["3x3", "3x3 halving, by phases", "1x1", "depthwise halving"]
)
def test_bfloat16_is_rounded_once(case):
    """Sums are not kept in bfloat16: of 64 images' products they would be far off."""
    (x, kernel, gradient), sizes = arrays(case)
    operands = [np.repeat(x, 32, 0), kernel, np.repeat(gradient, 32, 0)]
    narrow = [jnp.asarray(leaf, jnp.bfloat16) for leaf in operands]
    got = jax.jit(partial(pulled, ours, sizes))(*narrow)
    assert {leaf.dtype for leaf in got} == {jnp.dtype(jnp.bfloat16)}
    wide = [leaf.astype(jnp.float32) for leaf in narrow]
    expected = jax.jit(partial(pulled, reference, sizes))(*wide)
    for result, theirs in zip(got, expected, strict=True):
        error = np.linalg.norm(result.astype(jnp.float32) - theirs)
        assert error < 4e-3 * np.linalg.norm(theirs)


def test_channels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"x has 3 channels.*takes 4"):
        conv2d(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 4, 8)))


@pytest.mark.parametrize("sides", [(8, 6), (7, 6), (5, 5)])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_nth_pixel_and_its_gradient(sides, n):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, *sides, 3)))
    assert_allclose(every_nth_pixel(x, n), x[:, ::n, ::n])
    gradient = jax.grad(lambda x: jnp.square(every_nth_pixel(x, n)).sum())(x)
    expected = np.zeros(x.shape)
    expected[:, ::n, ::n] = 2 * x[:, ::n, ::n]
    assert_allclose(gradient, expected, rtol=1e-6)
