"""The recipes' forms for the device beside those of the host, on the same draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.configs import base
from qface_jax.tables import RECIPES
from support.degrade_goldens import drawn
from support.degrade_recipes import settings as never
from support.device_degradation import both, off, settings

NAMES = [name for name in RECIPES if RECIPES[name].draw_on_device is not None]
COUNT = 8
# Of black and white every pixel is a whole number but for rounding, of which a fraction
# that is cut off makes a grey level.
VARIED = [row for row in range(COUNT) if row not in (COUNT - 3, COUNT - 2)]


def pictures():
    face = drawn()[0]
    noise = np.random.default_rng(1).integers(0, 256, face.shape, np.uint8)
    return np.stack([face] * (COUNT - 3) + [face * 0, face * 0 + 255, noise])


def draw(name, images, params, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(images))
    call = jax.jit(partial(RECIPES[name].draw_on_device, params=params))
    return np.asarray(call(jnp.asarray(images), keys))


def test_those_that_train_have_one():
    assert set(RECIPES) - set(NAMES) == {"unrecognizable"}


@pytest.mark.parametrize("name", NAMES)
def test_every_step_taken_the_pictures_are_those_of_the_host(name, monkeypatch):
    changes = (
        {} if "jpeg_probability" not in settings(name) else {"jpeg_quality": (60, 95)}
    )
    on_host, on_device = both(monkeypatch, name, pictures(), settings(name, **changes))
    wrong = off(on_device, on_host)
    # JPEG spreads a single grey level before it over a block.
    assert wrong.max() <= 10
    assert (wrong[VARIED] > 2).mean() < 0.001
    assert (wrong[VARIED] > 1).mean() < 0.002
    assert (wrong[VARIED] > 0).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_as_often_as_its_defaults_say(name, monkeypatch):
    params = base.get_config().degrade[name]
    on_host, on_device = both(monkeypatch, name, pictures(), params, seed=5)
    wrong = off(on_device, on_host)
    assert (wrong > 1).mean() < 0.001
    assert (wrong[VARIED] > 0).mean() < 0.01


@pytest.mark.slow
def test_the_hue_in_place_of_the_contrast(monkeypatch):
    params = never("adaface", photometric_probability=1.0, photometric_third="hue")
    on_host, on_device = both(monkeypatch, "adaface", pictures(), params)
    assert (off(on_device, on_host) > 0).mean() < 0.001


@pytest.mark.parametrize("name", [x for x in NAMES if RECIPES[x].views == 1])
def test_probability_0_leaves_pictures_alone(name):
    np.testing.assert_array_equal(draw(name, pictures(), never(name)), pictures())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "resolution" else pytest.mark.slow)
        for name in NAMES
    ],
)
def test_a_picture_follows_from_its_key_alone(name):
    images, params = pictures(), base.get_config().degrade[name]
    first = draw(name, images, params)
    views = (2,) if RECIPES[name].views == 2 else ()
    assert first.dtype == np.uint8 and first.shape == (COUNT, *views, 112, 112, 3)
    np.testing.assert_array_equal(draw(name, images, params), first)
    assert not np.array_equal(draw(name, images, params, seed=1), first)
    others = images.copy()
    others[1:] = 77
    np.testing.assert_array_equal(draw(name, others, params)[0], first[0])


def test_probabilities_are_kept():
    images = np.stack([drawn()[0]] * 400)
    got = draw("clean", images, never("clean", flip_probability=0.3))
    flipped = (got == images[:, :, ::-1]).all(axis=(1, 2, 3)).mean()
    assert abs(flipped - 0.3) < 0.08


def test_octuplet_views_are_changed_alike():
    params = never("octuplet", sides=(112,), flip_probability=0.5)
    low, high = np.moveaxis(draw("octuplet", pictures(), params), 1, 0)
    # Through all 112 px the degraded view is the other one.
    assert off(low, high).max() <= 1
    assert (off(high, pictures())[VARIED].max(axis=(1, 2, 3)) > 0).all()
