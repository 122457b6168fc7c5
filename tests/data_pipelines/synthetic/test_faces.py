"""The drawn faces: deterministic, people apart, a task that is hard when small."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.synthetic import faces as synthetic_faces
from qface_jax.data_pipelines.synthetic import parameters as face_parameters
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces, SyntheticPairs
from qface_jax.errors import DataError


@pytest.fixture(scope="module")
def faces():
    return SyntheticFaces(identities=6, images_per_identity=5, seed=3)


def test_counts_and_labels(faces):
    assert len(faces) == 30
    assert faces.num_classes == 6
    assert faces.labels().dtype == np.int32
    np.testing.assert_array_equal(faces.labels(), np.arange(30) // 5)
    described = faces.describe()
    assert described["images"] == 30
    assert described["identities"] == 6


def test_fetch_gives_rgb_jpegs_of_112_with_their_labels(faces):
    encoded, labels = faces.fetch(np.array([7, 29, 0]))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [1, 5, 0])
    for image in encoded:
        with Image.open(io.BytesIO(image)) as opened:
            assert (opened.format, opened.mode) == ("JPEG", "RGB")
            assert opened.size == (112, 112)


def test_a_picture_does_not_depend_on_what_is_fetched_beside_it(faces):
    together, _ = faces.fetch(np.arange(30))
    for index in (0, 13, 29):
        alone, _ = faces.fetch(np.array([index]))
        assert alone[0] == together[index]
    again, _ = SyntheticFaces(6, 5, seed=3).fetch(np.arange(30))
    assert again == together


def test_every_picture_is_another():
    drawn = SyntheticFaces(4, 4, seed=0).fetch(np.arange(16))[0]
    assert len(set(drawn)) == 16


def test_another_seed_and_another_first_identity_draw_other_people():
    plain = SyntheticFaces(3, 2, seed=0).fetch(np.arange(6))[0]
    seeded = SyntheticFaces(3, 2, seed=1).fetch(np.arange(6))[0]
    later = SyntheticFaces(3, 2, seed=0, first_identity=2).fetch(np.arange(6))[0]
    assert not set(plain) & set(seeded)
    assert later[:2] == plain[4:]
    assert not set(later[2:]) & set(plain)


def test_the_person_stays_and_the_picture_changes():
    people = face_parameters.face_parameters(0, 0, np.array([4, 4, 5]), np.arange(3))
    for name in face_parameters.IDENTITY_RANGES:
        first, second, other = people[name].ravel()
        assert first == second != other, name
    for name in face_parameters.NUISANCE_RANGES:
        assert len(set(people[name].ravel().tolist())) == 3, name


def test_parameters_stay_in_their_ranges():
    many = np.arange(200)
    drawn = face_parameters.face_parameters(0, 0, many, many)
    ranges = face_parameters.IDENTITY_RANGES | face_parameters.NUISANCE_RANGES
    for name, (low, high) in ranges.items():
        values = drawn[name]
        assert low <= values.min() < values.max() <= high, name
        assert abs(values.mean() - (low + high) / 2) < 0.12 * (high - low), name


def test_training_and_evaluation_people_differ_under_the_same_seed():
    people, first = np.arange(5), np.zeros(5, int)
    train = face_parameters.face_parameters(
        0, face_parameters.TRAINING_DOMAIN, people, first
    )
    held_out = face_parameters.face_parameters(
        0, face_parameters.EVALUATION_DOMAIN, people, first
    )
    for name in face_parameters.IDENTITY_RANGES:
        assert not np.isin(train[name], held_out[name]).any(), name


def test_pairs_are_balanced_in_every_contiguous_fold():
    pairs = SyntheticPairs(identities=10, pairs=60, seed=1)
    assert len(pairs) == 120
    assert pairs.issame.dtype == bool
    for fold in np.split(pairs.issame, 10):
        assert fold.sum() == 3
    people = pairs._identities.reshape(-1, 2)
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], pairs.issame)


def test_pairs_fetch_the_same_bytes_in_any_order():
    pairs = SyntheticPairs(identities=5, pairs=4, seed=1)
    all_images = pairs.fetch(np.arange(8))
    assert len(set(all_images)) == 8
    assert pairs.fetch(np.array([6, 1])) == [all_images[6], all_images[1]]


def test_fine_detail_tells_people_apart():
    """A person's mean picture without the coarse part still fits new pictures best."""
    people, shots = 12, 40
    identities = np.repeat(np.arange(people), shots)
    images = np.tile(np.arange(shots), people)
    pictures = synthetic_faces.draw(0, 0, identities, images).astype(np.float32)
    gray = pictures.mean(axis=3)
    blocks = gray.reshape(-1, 14, 8, 14, 8).mean(axis=(2, 4))
    fine = gray - blocks.repeat(8, axis=1).repeat(8, axis=2)
    fine /= np.linalg.norm(fine, axis=(1, 2), keepdims=True)
    seen = fine.reshape(people, shots, -1)
    centres = seen[:, :30].mean(axis=1)
    scores = np.einsum("ptf,cf->ptc", seen[:, 30:], centres)
    right = (scores.argmax(axis=2) == np.arange(people)[:, None]).mean()
    assert right > 3 / people


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 0), "identities: got 0"),
        ((5, 0, 0), "images_per_identity: got 0"),
        ((5, 5, -1), "seed: got -1"),
    ],
)
def test_counts_out_of_range_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        SyntheticFaces(*arguments)


def test_pairs_of_one_person_only_are_refused():
    with pytest.raises(DataError, match="pairs of two people"):
        SyntheticPairs(identities=1, pairs=4, seed=0)
