"""ResNet-50 and MobileNetV2: counts of the published bodies, values, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from support import backbones

DIM = 16
# Of torchvision's models without their classifier (25,557,032 - 2,049,000 parameters
# of resnet50, 3,504,872 - 1,281,000 of mobilenet_v2). Keras' trainable ones without
# top are 23,534,592, 26,560 of which are biases of convolutions, and 2,223,872; the
# others, 53,120 and 34,112, are running statistics.
BODIES = {"resnet50": (23_508_032, 53_120), "mobilenet_v2": (2_223_872, 34_112)}
LAST = {"resnet50": 2048, "mobilenet_v2": 1280}
PIXELS = 4 * 4  # of the last map of a 112 px image


def conv_norm(inside, outside, side=1):
    return side * side * inside * outside + 2 * outside


def resnet50_by_hand():
    total, inputs = conv_norm(3, 64, 7), 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for index in range(count):
            total += conv_norm(inputs, width) + conv_norm(width, width, 3)
            total += conv_norm(width, 4 * width)
            if index == 0:
                total += conv_norm(inputs, 4 * width)
            inputs = 4 * width
    return total


def mobilenet_v2_by_hand():
    def depthwise(channels):
        return conv_norm(1, channels, 3)

    total = conv_norm(3, 32, 3) + depthwise(32) + conv_norm(32, 16)
    inputs = 16
    for outputs, count in ((24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1)):
        for _ in range(count):
            wide = 6 * inputs
            total += conv_norm(inputs, wide) + depthwise(wide)
            total += conv_norm(wide, outputs)
            inputs = outputs
    return total + conv_norm(320, 1280)


BY_HAND = {"resnet50": resnet50_by_hand, "mobilenet_v2": mobilenet_v2_by_hand}


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", BODIES)
def test_counts_are_those_of_the_published_bodies(name):
    """Beside the body: ArcFace's batch norm, linear layer and batch norm."""
    model = backbones.built(backbone=name, embedding_dim=512)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    body, statistics = BODIES[name]
    assert BY_HAND[name]() == body
    neck = 2 * LAST[name] + PIXELS * LAST[name] * 512 + 512 + 512
    assert count(params) == body + neck
    assert count(stats) == statistics + 2 * LAST[name] + 2 * 512


@pytest.fixture(scope="module", params=BODIES)
def small(request):
    """A backbone with short features, and its initial values."""
    model = backbones.built(backbone=request.param, embedding_dim=DIM, dropout=0.5)
    return request.param, model, *backbones.initial(model)(jax.random.key(0))


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter(small):
    _, model, params, stats = small
    images = backbones.IMAGES[:4]
    gradient = backbones.gradient(model)(params, stats, images, jax.random.key(1))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert jnp.all(jnp.isfinite(leaf)), path
        # A batch norm takes out what the linear layer's bias adds.
        if path[-2].key != "fc" or path[-1].key != "bias":
            assert jnp.any(leaf != 0), path


@pytest.mark.slow
def test_dropout_and_bfloat16(small):
    name, model, params, stats = small
    images = backbones.IMAGES[:4]
    train = backbones.forward(model, train=True)
    first, _ = train(params, stats, images, jax.random.key(1))
    other, _ = train(params, stats, images, jax.random.key(2))
    again, _ = train(params, stats, images, jax.random.key(1))
    assert jnp.array_equal(first, again) and not jnp.allclose(first, other)
    half = backbones.built(backbone=name, embedding_dim=DIM, dtype="bfloat16")
    whole = backbones.built(backbone=name, embedding_dim=DIM)
    # By the running statistics: over few images a batch norm enlarges every rounding.
    key = jax.random.key(0)
    exact, _ = backbones.forward(whole, train=False)(params, stats, images, key)
    rounded, _ = backbones.forward(half, train=False)(params, stats, images, key)
    assert rounded.dtype == jnp.float32
    assert not jnp.array_equal(exact, rounded)
    apart = jnp.linalg.norm(exact - rounded, axis=1)
    assert jnp.all(apart < 0.05 * jnp.linalg.norm(exact, axis=1)), apart
