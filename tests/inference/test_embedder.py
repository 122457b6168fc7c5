import numpy as np
import pytest

from qface_jax.errors import DataError
from qface_jax.inference.embedder import Embedder


def images(n, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), np.uint8)


def split(array, sizes):
    return np.split(array, np.cumsum(sizes)[:-1])


def corners(batch):
    """A feature that sees left and right: the four corners' values."""
    batch = np.asarray(batch, np.float32)
    return batch[:, [0, 0, -1, -1], [0, -1, 0, -1], 0]


class Recorder:
    """Counts the rows it is called with."""

    def __init__(self):
        self.rows = []

    def __call__(self, batch):
        self.rows.append(len(batch))
        return corners(batch)


@pytest.mark.parametrize("sizes", [(4, 4, 2), (4, 4), (1,), (3, 4, 1)])
def test_batches_are_padded_and_the_padding_dropped(sizes):
    all_images, embed = images(sum(sizes)), Recorder()
    found = Embedder(embed, 4).embed(split(all_images, sizes), count=sum(sizes))
    assert set(embed.rows) == {4} and len(embed.rows) == len(sizes)
    np.testing.assert_array_equal(found.features, corners(all_images))
    np.testing.assert_allclose(
        found.scores["norm"], np.linalg.norm(corners(all_images), axis=1), rtol=1e-6
    )
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(found.plain, found.features)
    assert found.mirrored is None and found.unusable.size == 0


def test_flip_adds_the_feature_of_the_mirror_image():
    all_images = images(6)
    embedder = Embedder(corners, 4, flip=True)
    found = embedder.embed(split(all_images, (4, 2)), count=6)
    plain, mirrored = corners(all_images), corners(all_images)[:, [1, 0, 3, 2]]
    assert np.any(plain != mirrored)
    np.testing.assert_allclose(found.features, plain + mirrored)
    np.testing.assert_array_equal(found.plain, plain)
    np.testing.assert_array_equal(found.mirrored, mirrored)
    # The norm is the quality of the image itself.
    np.testing.assert_allclose(
        found.scores["norm"], np.linalg.norm(plain, axis=1), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("count", "words"), [(7, "more than the 7"), (9, "expected 9")]
)
def test_wrong_number_of_images(count, words):
    with pytest.raises(DataError, match=words):
        Embedder(corners, 4).embed(split(images(8), (4, 4)), count=count)


def test_no_images():
    with pytest.raises(DataError, match="got 0"):
        Embedder(corners, 4).embed([], count=0)


@pytest.mark.parametrize(
    "batch", [images(5), images(2).astype(np.float32), images(2)[..., :1]]
)
def test_unfit_batches(batch):
    with pytest.raises(ValueError):
        Embedder(corners, 4).embed([batch], count=5)


def test_a_batch_is_waited_for_when_the_next_is_on_its_way():
    events = []

    class Late:
        def __init__(self, batch):
            self.features = corners(batch)

        def __array__(self, dtype=None, copy=None):
            events.append("waited")
            return self.features.astype(dtype)

    def forward(batch):
        events.append("started")
        return Late(batch)

    all_images = images(6)
    batches = zip(split(all_images, (4, 2, 0)), "abc", strict=True)
    parts = list(Embedder(forward, 4).stream(batches))
    assert events == ["started", "started", "waited", "started", "waited", "waited"]
    assert [label for _, label in parts] == ["a", "b", "c"]
    features = np.concatenate([embedded.features for embedded, _ in parts])
    np.testing.assert_array_equal(features, corners(all_images))


def test_hosts_embed_equally_often():
    embed = Recorder()
    found = Embedder(embed, 4).embed([images(3)], count=3, calls=3)
    assert embed.rows == [4, 4, 4] and len(found.features) == 3
