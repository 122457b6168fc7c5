"""The recipes of the recognizability objective: what each step does, and how often."""

import numpy as np
import pytest
import tensorflow as tf

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import steps
from support.degrade_goldens import drawn
from support.degrade_recipes import run, settings


@pytest.fixture(scope="module")
def image():
    return tf.constant(drawn()[0])


def through(image, sides):
    """What a picture is after going through each of the sides -> the side."""
    return {
        steps.down_up(image, side=side, antialias=True).numpy().tobytes(): side
        for side in sides
    }


@pytest.mark.parametrize(
    ("recipe", "changes", "sides"),
    [
        ("recognizability", {"rescale_probability": 1.0}, (64, 100)),
        ("recognizability", {"low_probability": 1.0}, (7, 14, 28)),
        ("unrecognizable", {"shrink_probability": 1.0}, (4, 5, 6, 7, 8)),
    ],
)
def test_every_side_is_drawn_equally_often(image, recipe, changes, sides):
    expected = through(image, sides)
    got = run(recipe, image, settings(recipe, **changes), 120)
    found = [expected[picture.tobytes()] for picture in got]
    for side in sides:
        assert found.count(side) / 120 == pytest.approx(1 / len(sides), abs=0.13)


def test_rotation_stays_within_its_degrees():
    white = tf.fill([112, 112, 3], np.uint8(255))
    right = tf.concat([0 * white[:, :56], white[:, 56:]], 1)
    params = settings("recognizability", rotation_probability=1.0)
    got = run("recognizability", right, params, 100)[..., 0] / 255
    rows, columns = np.mgrid[:112, :112] - 55.5
    moments = (got * rows).sum((1, 2)), (got * columns).sum((1, 2))
    angles = np.degrees(np.arctan2(*moments))
    assert -10.5 < angles.min() < -8
    assert 8 < angles.max() < 10.5
    assert np.abs(angles).mean() == pytest.approx(5, abs=1)


CHANCES = {
    "recognizability": {"flip": 0.3, "rotation": 0.4, "rescale": 0.6, "low": 0.7},
    "unrecognizable": {
        "flip": 0.3,
        "shrink": 0.4,
        "blur": 0.5,
        "occlusion": 0.6,
        "brightness": 0.7,
    },
}


@pytest.mark.parametrize("recipe", CHANCES)
def test_steps_are_drawn_independently_with_their_probabilities(image, recipe):
    chances, changed = CHANCES[recipe], []
    for step, chance in chances.items():
        params = settings(recipe, **{f"{step}_probability": chance})
        got = run(recipe, image, params, 150)
        changed.append((got != image.numpy()).any(axis=(1, 2, 3)))
    shares = np.mean(changed, axis=1)
    np.testing.assert_allclose(shares, list(chances.values()), atol=0.13)
    alike = np.corrcoef(changed) - np.eye(len(chances))
    assert np.abs(alike).max() < 0.3


def test_jpeg_is_for_the_low_sides_only(image):
    changes = {"jpeg_probability": 1.0, "jpeg_quality": (20, 20)}
    params = settings("recognizability", rescale_probability=1.0, **changes)
    known = through(image, (64, 100))
    assert {p.tobytes() for p in run("recognizability", image, params, 6)} <= {*known}
    params = settings("recognizability", low_probability=1.0, **changes)
    known = through(image, (7, 14, 28))
    assert not {p.tobytes() for p in run("recognizability", image, params, 6)} & {
        *known
    }


def test_low_sides_and_jpeg_are_off_unless_asked_for():
    params = base.get_config().degrade.recognizability
    assert (params.low_probability, params.jpeg_probability) == (0.0, 0.0)


def blurred(image, sigma):
    """The same in float64, one axis after the other, edges repeated."""
    reach = 112
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-((offsets / sigma) ** 2) / 2) * (np.abs(offsets) <= 4 * sigma)
    kernel /= kernel.sum()
    picture = image.astype(np.float64)
    for axis in (0, 1):
        pad = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        edges = np.pad(picture, pad, mode="edge")
        picture = np.apply_along_axis(np.convolve, axis, edges, kernel, "valid")
    return picture


@pytest.mark.parametrize("sigma", [0.3, 2.0, 6.0, 28.0])
def test_blur_is_a_gaussian_with_its_edges_repeated(image, sigma):
    got = steps.blur(image, tf.constant(sigma)).numpy()
    assert got.dtype == np.uint8
    assert np.abs(got - blurred(image.numpy(), sigma)).max() < 0.51


def test_blur_of_one_colour_is_that_colour():
    plain = tf.fill([112, 112, 3], np.uint8(201))
    got = steps.blur(plain, tf.constant(5.0))
    np.testing.assert_array_equal(got, plain)


def test_the_box_has_one_grey_and_hides_its_share(image):
    params = settings("unrecognizable", occlusion_probability=1.0)
    areas, greys = [], set()
    for got in run("unrecognizable", image, params, 60):
        changed = (got != image.numpy()).any(axis=2)
        rows, columns = changed.any(axis=1), changed.any(axis=0)
        inside = got[np.ix_(np.flatnonzero(rows), np.flatnonzero(columns))]
        assert np.ptp(inside) == 0
        assert 0.4 < columns.sum() / rows.sum() < 2.2
        areas.append(rows.sum() * columns.sum() / 112**2)
        greys.add(int(inside[0, 0, 0]))
    assert 0.08 < min(areas) < 0.16
    assert 0.3 < max(areas) < 0.42
    assert len(greys) > 30


def test_brightness_is_a_factor_within_its_bounds():
    grey = tf.fill([112, 112, 3], np.uint8(100))
    params = settings("unrecognizable", brightness_probability=1.0)
    got = run("unrecognizable", grey, params, 100)
    assert np.ptp(got, axis=(1, 2, 3)).max() == 0
    levels = got[:, 0, 0, 0]
    assert 50 <= levels.min() < 56
    assert 114 < levels.max() <= 120


def test_little_of_a_face_is_left(image):
    params = base.get_config().degrade.unrecognizable
    params.occlusion_probability = 0.0  # its edges are sharp
    got = run("unrecognizable", image, params, 20).astype(float)
    fine = np.abs(np.diff(image.numpy().astype(float), axis=0)).mean()
    assert np.abs(np.diff(got, axis=1)).mean() < 0.35 * fine
    assert len({picture.tobytes() for picture in got}) == 20
