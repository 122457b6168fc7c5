"""Quality of previewed pictures, the side they fall to, and what is said of it."""

import numpy as np
import pytest

from qface_jax.configs import base
from qface_jax.errors import DataError
from qface_jax.inference import picture_quality
from qface_jax.inference.embedder import Embedder

U_ORIGINALS = np.array([0.9, 0.1], np.float32)
U_DRAWN = np.array([[0.3, 0.2, 0.05], [0.3, 0.1, 0.7]], np.float32)


def pictures(u):
    """Pictures whose brightness is 200 u."""
    levels = np.round(200 * np.asarray(u)).astype(np.uint8)
    return np.broadcast_to(levels[..., None, None, None], (*levels.shape, 112, 112, 3))


def brightness(images):
    return images.mean(axis=(1, 2, 3)) / 200


def lower(u_q, u_k):
    return np.minimum(u_q, u_k) <= 0.2 + 1e-6


def group(**changes):
    found = base.get_config().qgface
    found.update(changes)
    return found


def judged(contrasted=lower, **changes):
    return picture_quality.judge_pairs(
        pictures(U_ORIGINALS),
        pictures(U_DRAWN),
        quality=brightness,
        contrasted=contrasted,
        group=group(**changes),
    )


def test_pairs_fall_to_the_side_of_their_quality():
    verdict = judged()
    np.testing.assert_allclose(verdict.u_originals, U_ORIGINALS, atol=0.003)
    np.testing.assert_allclose(verdict.u_drawn, U_DRAWN, atol=0.003)
    np.testing.assert_array_equal(
        verdict.low, [[False, True, True], [True, True, True]]
    )
    assert verdict.facts == [
        "pair quality u_p = min(u_q, u_k), threshold 0.2: 5 of 6 pairs contrasted "
        "(red, u_p <= 0.2), 1 only classified (green)",
        "views with u > 0.2: 3 of 6 q, 1 of 2 k",
    ]


def test_each_draw_is_judged_with_its_own_original():
    asked = []

    def spied(u_q, u_k):
        asked.append((u_q, u_k))
        return u_q > u_k

    verdict = judged(spied)
    (u_q, u_k) = asked[0]
    np.testing.assert_allclose(u_q, U_DRAWN.ravel(), atol=0.003)
    np.testing.assert_allclose(u_k, np.repeat(U_ORIGINALS, 3), atol=0.003)
    np.testing.assert_array_equal(verdict.low, U_DRAWN > U_ORIGINALS[:, None])


def test_without_a_partition_there_are_no_sides():
    verdict = judged(contrasted=None, partition="none")
    assert verdict.low is None
    assert verdict.facts == [
        "partition none: all 6 pairs contrasted, all views classified"
    ]


def test_without_a_queue_nothing_is_contrasted():
    assert "no contrastive loss" in judged(queue="none").facts[-1]


def test_single_views_fall_by_the_threshold():
    verdict = picture_quality.judge_views(
        pictures(U_ORIGINALS),
        pictures(U_DRAWN),
        quality=brightness,
        group=group(threshold=0.25),
    )
    np.testing.assert_array_equal(verdict.low, U_DRAWN <= 0.25)
    assert verdict.facts == [
        "threshold 0.25: 3 of 6 views with u <= 0.25 (red), 3 above (green)"
    ]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_pictures_are_embedded_in_whole_batches(count):
    sizes = []

    def embed(images):
        sizes.append(len(images))
        return images.reshape(len(images), -1)[:, :3].astype(np.float32)

    u = np.linspace(0, 1, count)
    got = picture_quality.measure(
        pictures(u), Embedder(embed, 4), lambda features: features[:, 0] / 200
    )
    np.testing.assert_allclose(got, u, atol=0.003)
    assert set(sizes) == {4}


def test_features_that_are_not_finite_are_said():
    def embed(images):
        features = np.ones((len(images), 3), np.float32)
        features[1] = np.nan
        return features

    with pytest.raises(DataError, match="NaN or infinite features for 1 of 2 images"):
        picture_quality.measure(pictures([0.1, 0.2]), Embedder(embed, 4), len)
