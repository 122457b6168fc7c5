"""BRISQUE against the recorded PyPI package and a derivation in float64."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, optimize, special

from qface_jax.losses import brisque

GOLDEN = Path(__file__).parents[1] / "golden" / "brisque.npz"
# Of the last image one shape is beyond the range in which shapes are looked for.
FITTED = slice(0, 7)


@pytest.fixture(scope="module")
def recorded():
    with np.load(GOLDEN) as arrays:
        arrays = dict(arrays)
    return arrays | {"images": jnp.asarray(arrays["images"])}


@pytest.fixture(scope="module")
def features():
    return jax.jit(brisque.features)


@pytest.fixture(scope="module")
def score():
    return jax.jit(brisque.score)


def fit_in_float64(x):
    left, right = x[x < 0], x[x >= 0]
    low, high = np.sqrt(np.mean(left**2)), np.sqrt(np.mean(right**2))
    g = low / high
    ratio = np.mean(np.abs(x)) ** 2 / np.mean(x**2)
    ratio *= (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2

    def error(a):
        gamma = special.gamma
        return gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) - ratio

    a = 10.0 if error(10.0) < 0 else optimize.brentq(error, 0.2, 10.0)
    one, two, three = (special.gamma(k / a) for k in (1, 2, 3))
    return a, (high - low) * np.sqrt(one / three) * two / one, low**2, high**2


def features_in_float64(image):
    grey = image.astype(np.float64) @ np.array([0.2125, 0.7154, 0.0721]) / 255
    rows = []
    padded = np.pad(grey, 1, mode="edge")
    taps = np.array([-0.09375, 0.59375, 0.59375, -0.09375])
    half = sum(t * padded[i : i + len(grey) : 2] for i, t in enumerate(taps))
    half = sum(t * half[:, i : i + len(grey) : 2] for i, t in enumerate(taps))
    for scale in (grey, half):
        place = np.arange(-3, 4)
        window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * (7 / 6) ** 2))
        window /= window.sum()
        mean = ndimage.convolve(scale, window, mode="constant")
        square = ndimage.convolve(scale**2, window, mode="constant")
        x = (scale - mean) / (np.sqrt(np.abs(square - mean**2)) + 1 / 255)
        a, _, low, high = fit_in_float64(x)
        rows += [a, (low + high) / 2]
        for pair in (
            x[:, :-1] * x[:, 1:],
            x[:-1] * x[1:],
            x[:-1, :-1] * x[1:, 1:],
            x[1:, :-1] * x[:-1, 1:],
        ):
            rows += fit_in_float64(pair)
    return np.array(rows)


def test_features_and_scores_of_the_package(recorded, features, score):
    got = np.asarray(features(recorded["images"]))
    want = np.clip(recorded["features"], None, 10.0)  # the package looks beyond 10
    np.testing.assert_allclose(got[FITTED], want[FITTED], rtol=3e-3, atol=2e-4)
    got = np.asarray(score(recorded["images"]))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[FITTED], recorded["scores"][FITTED], atol=0.1)
    assert np.ptp(recorded["scores"][FITTED]) > 40


def test_features_in_float64(recorded, features):
    got = np.asarray(features(recorded["images"]))
    images = np.asarray(recorded["images"])
    want = np.stack([features_in_float64(image) for image in images])
    np.testing.assert_allclose(got, want, rtol=3e-3, atol=2e-4)


def test_the_regression_in_float64(recorded, score):
    model = brisque._regression()
    x = features_in_float64(np.asarray(recorded["images"][0]))
    low, high = np.float64(model.minimum), np.float64(model.maximum)
    x = 2 * (x - low) / (high - low) - 1
    distance = np.sum((x - np.float64(model.support_vectors)) ** 2, axis=1)
    want = model.coefficients @ np.exp(-0.05 * distance) + 155.845
    assert score(recorded["images"])[0] == pytest.approx(want, abs=0.1)


def test_noise_is_worse(recorded, score):
    rng = np.random.default_rng(0)
    clean = np.asarray(recorded["images"][:2], np.float32)
    noisy = np.clip(clean + rng.normal(0, 40, clean.shape), 0, 255)
    worse = np.asarray(score(jnp.float32(noisy))) - np.asarray(
        score(jnp.asarray(clean))
    )
    assert worse.min() > 5


@pytest.mark.parametrize("kind", ["black", "white", "grey", "one_pixel", "faint"])
def test_plain_images_are_finite(kind, features, score):
    image = np.full((1, 112, 112, 3), {"black": 0, "white": 255}.get(kind, 100.0))
    if kind == "one_pixel":
        image[0, 50, 50] = 255
    if kind == "faint":
        image += np.random.default_rng(0).normal(0, 1e-3, image.shape)
    image = jnp.float32(image)
    assert np.isfinite(features(image)).all()
    assert 100 < float(score(image)[0]) < 300


def test_bytes_and_floats_are_the_same_and_quality_is_the_share(recorded, score):
    images = recorded["images"]
    np.testing.assert_allclose(score(images), score(jnp.float32(images)), atol=0.05)
    np.testing.assert_allclose(
        brisque.quality(images), 1 - np.asarray(score(images)) / 100, atol=1e-3
    )


def test_there_is_no_gradient(recorded):
    images = jnp.asarray(recorded["images"][:1], jnp.float32)
    assert not np.any(jax.grad(lambda x: jnp.sum(brisque.score(x)))(images))


@pytest.mark.parametrize("shape", [(1, 111, 112, 3), (1, 112, 8, 3)])
def test_sides_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(ValueError, match="even sides"):
        brisque.score(jnp.zeros(shape, jnp.uint8))
