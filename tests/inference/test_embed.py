import numpy as np
import pytest

from qface_jax.errors import DataError
from qface_jax.inference.embed import embed_images


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
    found = embed_images(
        split(all_images, sizes), embed, count=sum(sizes), batch_size=4, flip=False
    )
    assert set(embed.rows) == {4} and len(embed.rows) == len(sizes)
    np.testing.assert_array_equal(found.features, corners(all_images))
    np.testing.assert_allclose(
        found.scores["norm"], np.linalg.norm(corners(all_images), axis=1), rtol=1e-6
    )
    assert found.features.dtype == np.float32


def test_flip_adds_the_feature_of_the_mirror_image():
    all_images = images(6)
    found = embed_images(
        split(all_images, (4, 2)), corners, count=6, batch_size=4, flip=True
    )
    plain, mirrored = corners(all_images), corners(all_images)[:, [1, 0, 3, 2]]
    assert np.any(plain != mirrored)
    np.testing.assert_allclose(found.features, plain + mirrored)
    # The norm is the quality of the image itself.
    np.testing.assert_allclose(
        found.scores["norm"], np.linalg.norm(plain, axis=1), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("count", "words"), [(7, "more than the 7"), (9, "expected 9")]
)
def test_wrong_number_of_images(count, words):
    with pytest.raises(DataError, match=words):
        embed_images(
            split(images(8), (4, 4)), corners, count=count, batch_size=4, flip=False
        )


def test_no_images():
    with pytest.raises(DataError, match="got 0"):
        embed_images([], corners, count=0, batch_size=4, flip=False)


@pytest.mark.parametrize(
    "batch", [images(5), images(2).astype(np.float32), images(2)[..., :1]]
)
def test_unfit_batches(batch):
    with pytest.raises(ValueError):
        embed_images([batch], corners, count=5, batch_size=4, flip=False)
