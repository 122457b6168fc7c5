"""What goes into an exported model and what comes out, against plain float64."""

import itertools

import jax
import numpy as np
import pytest

from qface_jax.errors import ConfigError
from qface_jax.export.interface import (
    COLOR_ORDERS,
    INPUTS,
    LAYOUTS,
    Interface,
    check,
    function,
)
from qface_jax.weights.convention import PRESETS, Convention

NETWORK = Convention((100.0, 110.0, 120.0), (50.0, 60.0, 70.0), "BGR")
CENTRES = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
MIX = np.random.default_rng(2).normal(size=(112 * 112 * 3, 6)).astype(np.float32)


def raw(images):
    """A network: something that depends on every pixel and every colour."""
    return images.reshape(images.shape[0], -1) @ MIX / 100


def expected(pixels, interface):
    images = pixels.astype(np.float64) / 127.5 - 1
    plain = images.reshape(len(images), -1) @ MIX.astype(np.float64) / 100
    turned = images[:, :, ::-1]
    mirrored = turned.reshape(len(images), -1) @ MIX.astype(np.float64) / 100
    features = plain + mirrored if interface.flip else plain
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centres = CENTRES / np.linalg.norm(CENTRES, axis=1, keepdims=True)
    return {
        "embedding": unit if interface.unit else features,
        "norm": np.linalg.norm(plain, axis=1),
        "class_cosines": unit @ centres.T,
    }


@pytest.mark.parametrize(
    ("kind", "layout", "order"),
    list(itertools.product(INPUTS, LAYOUTS, COLOR_ORDERS)),
)
def test_every_form_of_input_is_the_same_image(kind, layout, order):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    interface = Interface(kind, layout, order, flip=True, cosines=True)
    images = interface.arranged(pixels, NETWORK)
    assert images.shape[1:] == interface.image_shape
    assert images.dtype == interface.dtype
    outputs = jax.jit(function(raw, interface, NETWORK, CENTRES))(images)
    assert set(outputs) == set(interface.outputs)
    for name, values in expected(pixels, interface).items():
        np.testing.assert_allclose(outputs[name], values, rtol=2e-4, atol=2e-5)


def test_outputs_are_those_that_are_asked_for():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    interface = Interface(unit=False, norm=False)
    outputs = jax.jit(function(raw, interface, PRESETS["unit"], None))(pixels)
    assert set(outputs) == {"embedding"}
    want = expected(pixels, interface)["embedding"]
    np.testing.assert_allclose(outputs["embedding"], want, rtol=2e-4, atol=2e-4)


def test_a_feature_of_zeros_stays_finite():
    outputs = function(lambda x: 0 * raw(x), Interface(), PRESETS["unit"], None)(
        np.zeros((1, 112, 112, 3), np.uint8)
    )
    np.testing.assert_array_equal(outputs["embedding"], np.zeros((1, 6)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "int8"}, "input: got 'int8', must be one of uint8, float32"),
        ({"layout": "chw"}, "layout: got 'chw', must be one of nhwc, nchw"),
        ({"color_order": "GRB"}, "color_order: got 'GRB', must be one of RGB, BGR"),
        ({"batch": 0}, "batch: got 0, must be at least 1"),
    ],
)
def test_what_there_is_not_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check(Interface(**changes))
