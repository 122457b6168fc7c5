"""conv2d against XLA's own convolution: values and both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose

from qface_jax.models.convolution import conv2d


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
    "two groups": ((2, 6, 8, 4), 3, 1, 1, 2),
    "all of the map": ((2, 7, 7, 4), 7, 1, 0, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    shape, side, stride, padding, groups = CASES[case]
    draw = np.random.default_rng(0).standard_normal
    x = draw(shape, np.float32)
    kernel = draw((side, side, shape[-1] // groups, 8), np.float32)
    pixels = [(length + 2 * padding - side) // stride + 1 for length in shape[1:3]]
    gradient = draw((shape[0], *pixels, 8), np.float32)

    @jax.jit
    def both(x, kernel, gradient):
        def ours(x, kernel):
            return conv2d(x, kernel, stride=stride, padding=padding, groups=groups)

        def plain(x, kernel):
            return reference(x, kernel, stride, padding, groups)

        expected, pull_expected = jax.vjp(plain, x, kernel)
        got, pull = jax.vjp(ours, x, kernel)
        return (got, *pull(gradient)), (expected, *pull_expected(gradient))

    for mine, theirs in zip(*both(x, kernel, gradient), strict=True):
        assert mine.dtype == theirs.dtype
        assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


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
        return conv2d(x, kernel, stride=2, padding=1).sum()

    shapes = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 4, 4))
    traced = jax.jit(jax.grad(loss)).trace(*shapes)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("lhs_dilate = [2, 2]") == 1


def test_bfloat16_stays_bfloat16():
    x, kernel = jnp.ones((1, 4, 4, 2), "bfloat16"), jnp.ones((3, 3, 2, 2), "bfloat16")
    gradients = jax.grad(
        lambda x, k: conv2d(x, k, stride=2, padding=1).sum().astype("float32"), (0, 1)
    )(x, kernel)
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.bfloat16]


def test_channels_that_do_not_fit():
    with pytest.raises(ValueError, match=r"x has 3 channels.*takes 4"):
        conv2d(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 4, 8)))
