"""The people of a gallery, from the names of its images."""

import numpy as np
import pytest

from qface_jax.api.identification import gallery_of, stranger_threshold
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals.measures.unit import unit
from qface_jax.inference.embeddings import Embeddings

NAMES = [
    "b/2.png", "a/1.png", "b/deep/1.png", "c.png", "lost/1.png", "/data/d/1.png",
    "a/2.png",
]  # fmt: skip
FEATURES = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def embeddings(bad):
    statuses = ["not_an_image" if row in bad else "ok" for row in range(len(NAMES))]
    features = np.where(np.isin(np.arange(7), bad)[:, None], np.float32(0), FEATURES)
    messages = ["no picture" if row in bad else "" for row in range(len(NAMES))]
    return Embeddings(features, {}, NAMES, statuses, messages)


def test_people_are_folders_and_means(monkeypatch):
    monkeypatch.setattr("qface_jax.api.identification._PEOPLE", 2)
    gallery = gallery_of(embeddings([4]))
    assert gallery.people == ["a", "b", "c", "d"]
    assert gallery.images.tolist() == [2, 2, 1, 1]
    assert gallery.lost == ["lost"]
    assert gallery.owner.tolist() == [1, 0, 1, 2, -1, 3, 0]
    wanted = [unit(FEATURES[rows]).mean(axis=0) for rows in ([1, 6], [0, 2], [3], [5])]
    np.testing.assert_allclose(gallery.vectors, unit(np.stack(wanted)), rtol=1e-5)


def test_a_gallery_of_nothing_is_refused():
    with pytest.raises(
        DataError, match="none of 7 images can be used; the first is b/2"
    ):
        gallery_of(embeddings(range(7)))


def people(count, each):
    features = np.random.default_rng(1).normal(size=(count * each, 8))
    names = [f"p{row % count}/{row}" for row in range(count * each)]
    nothing = [""] * len(names)
    return Embeddings(
        features.astype(np.float32), {}, names, ["ok"] * len(names), nothing
    )


def test_strangers_are_images_among_other_people():
    embedded = people(30, 10)
    gallery = gallery_of(embedded)
    limit = stranger_threshold(gallery, embedded, 0.1)
    scores = embedded.unit @ gallery.vectors.T
    scores[np.arange(300), gallery.owner] = -1
    assert (scores.max(axis=1) >= limit + 1e-6).sum() == 30
    with pytest.raises(
        ConfigError, match="larger gallery, of 1,000 images at least, a"
    ):
        stranger_threshold(gallery, embedded, 0.01)
    with pytest.raises(ConfigError, match="larger gallery, a calibration"):
        stranger_threshold(gallery, embedded, 0.001)
    with pytest.raises(ConfigError, match="100 images of 1 people in the gallery are"):
        stranger_threshold(gallery_of(people(1, 100)), people(1, 100), 0.5)
