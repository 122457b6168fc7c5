import numpy as np
import pytest

from qface_jax.evals.embedded import diagnose


def features(n=100, d=16):
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


def test_scattered_features_are_ok():
    assert diagnose(features(), resolution=0.01).status == "ok"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_features_are_counted_and_named(value):
    bad = features()
    bad[[3, 17], 2] = value
    health = diagnose(bad, resolution=0.01)
    assert health.status == "non_finite"
    assert "2 of 100 images" in health.message and "(images 3, 17)" in health.message


@pytest.mark.parametrize(
    "alike",
    [
        np.ones((100, 16), np.float32),
        np.zeros((100, 16), np.float32),
        # One direction, different lengths: all the same once normalised.
        np.linspace(1, 9, 100, dtype=np.float32)[:, None] * np.ones(16, np.float32),
        np.ones((100, 16), np.float32) + 1e-3 * features(),
        # A few different ones do not hide the collapse.
        np.concatenate([features(4), np.ones((96, 16), np.float32)]),
    ],
)
def test_collapsed_features(alike):
    health = diagnose(alike, resolution=0.01)
    assert health.status == "collapsed"
    assert "constant answer" in health.message


def test_collapse_does_not_depend_on_the_block(monkeypatch):
    near = np.ones((100, 16), np.float32) + 0.2 * features()
    assert diagnose(near, resolution=0.01).status == "ok"
    monkeypatch.setattr("qface_jax.evals.embedded._BLOCK", 7)
    assert diagnose(near, resolution=0.01).status == "ok"
    assert diagnose(np.ones((100, 16)), resolution=0.01).status == "collapsed"
