"""The nearest entries: those of a whole matrix in float64, whatever the blocks."""

import numpy as np
import pytest

from qface_jax.evals.measures import nearest as module
from qface_jax.evals.measures.nearest import NONE, nearest
from qface_jax.evals.measures.unit import unit


def vectors(count, width=16, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return unit(drawn).astype(np.float32)


def plain(gallery, probes, k):
    scores = np.asarray(probes, np.float64) @ np.asarray(gallery, np.float64).T
    scores = np.round(scores, 9)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


def assert_same(found, wanted):
    np.testing.assert_array_equal(found.row, wanted[0])
    np.testing.assert_allclose(found.score, wanted[1], rtol=0, atol=2e-9)


@pytest.mark.parametrize("block", [7, 64, 1000])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_it_is_the_whole_matrix(block, k, monkeypatch):
    monkeypatch.setattr(module, "_PROBE_BLOCK", 9)
    gallery, probes = vectors(300), vectors(20, seed=1)
    found = nearest(gallery, probes, k, block=block)
    assert_same(found, plain(gallery, probes, k))


@pytest.mark.parametrize("block", [7, 1000])
def test_equal_entries_come_in_the_order_of_the_gallery(block):
    gallery = np.repeat(vectors(4), 5, axis=0)[np.random.default_rng(2).permutation(20)]
    found = nearest(gallery, vectors(6, seed=1), 8, block=block)
    assert_same(found, plain(gallery, vectors(6, seed=1), 8))


def test_differences_below_float32_decide():
    # Cosines of about 1 - 1e-8 / 2, which float32 cannot tell from one another.
    angle = np.linspace(1e-4, 3e-4, 50)[np.random.default_rng(3).permutation(50)]
    gallery = np.zeros((50, 512), np.float32)
    gallery[:, 0], gallery[:, 1] = np.cos(angle), np.sin(angle)
    probe = np.zeros((1, 512), np.float32)
    probe[0, 0] = 1
    turned = np.linalg.qr(np.random.default_rng(4).normal(size=(512, 512)))[0]
    gallery, probe = (np.float32(x @ turned) for x in (gallery, probe))
    found = nearest(gallery, probe, 50, block=8)
    assert_same(found, plain(gallery, probe, 50))


def test_short_galleries_and_zero_vectors():
    gallery, probes = vectors(3), vectors(2, seed=1)
    gallery[1] = 0
    probes[1] = 0
    found = nearest(gallery, probes, 4)
    assert set(found.row[0]) == {0, 2, NONE}
    assert found.row[0, 2:].tolist() == [NONE, NONE]
    assert np.isinf(found.score[0, 2:]).all()
    assert (found.row[1] == NONE).all()
    nothing = nearest(gallery[:0], probes, 2)
    assert (nothing.row == NONE).all()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="gallery and probes must be"):
        nearest(vectors(3), vectors(2, width=8), 1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        nearest(vectors(3), vectors(2), 0)
