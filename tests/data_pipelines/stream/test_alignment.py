"""Crops from landmarks: as insightface and OpenCV 5 recorded them, and what is odd."""

import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.stream.alignment import (
    aligned,
    fault,
    similarity,
    template,
)

SIZES = (112, 128, 224, 256)
FACE = template() + np.array([7.0, -3.0])


@pytest.fixture(scope="module")
def recorded(golden):
    return golden("protocols/align")


def mapped(matrix, points):
    return (
        np.einsum("...ij,...kj->...ki", matrix[..., :2], points)
        + matrix[..., None, :, 2]
    )


@pytest.mark.parametrize("size", SIZES)
def test_transform_as_recorded(recorded, size):
    points = recorded["landmarks"].astype(np.float64)
    difference = mapped(similarity(points, size), points) - mapped(
        recorded[f"matrix_{size}"], points
    )
    print(f"{size} px: mapped points differ by {np.abs(difference).max():.1e} px")
    assert np.abs(difference).max() < 1e-3
    np.testing.assert_allclose(template(size), recorded[f"template_{size}"], atol=1e-4)


@pytest.mark.parametrize("size", [112, 128])
def test_warp_as_recorded(recorded, size):
    for row, expected in enumerate(recorded[f"cv5_warped_{size}"]):
        image = recorded["images"][row]
        matrix = similarity(recorded["image_landmarks"][row], size)
        crop = aligned(image, matrix, size).numpy()
        difference = np.abs(crop.astype(int) - expected)
        print(f"{size} px, picture {row}: {difference.max()} grey levels at most")
        assert crop.dtype == np.uint8 and difference.max() <= 1


def test_warp_samples_the_inverse(recorded):
    """Written out: four neighbours, black outside, rounded."""
    image = recorded["images"][1]
    matrix = similarity(recorded["image_landmarks"][1])
    y, x = np.mgrid[:112, :112]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    u, v, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)))
    u, v = np.clip(u + 1, 0, 131 - 1e-9), np.clip(v + 1, 0, 151 - 1e-9)
    left, top = u.astype(int), v.astype(int)
    a, b = (u - left)[..., None], (v - top)[..., None]
    expected = (1 - b) * (
        (1 - a) * padded[top, left] + a * padded[top, left + 1]
    ) + b * ((1 - a) * padded[top + 1, left] + a * padded[top + 1, left + 1])
    crop = aligned(image, matrix).numpy()
    assert np.abs(crop - expected).max() < 0.51


@pytest.mark.parametrize("size", [0, -112, 96, 100, 113, 192])
def test_other_sizes_are_an_error(size):
    with pytest.raises(ValueError, match=f"size: got {size}, must be a multiple"):
        template(size)
    with pytest.raises(ValueError, match=f"size: got {size}"):
        similarity(FACE, size)


def test_multiples():
    np.testing.assert_allclose(template(336), 3 * template(112))
    np.testing.assert_allclose(template(384), 3 * template(128))
    np.testing.assert_allclose(template(128), template(112) + np.array([8, 0]))


def test_four_points():
    """SCface's mouth is one point: the middle of the template's corners."""
    np.testing.assert_allclose(template(points=4)[3], template()[3:].mean(axis=0))
    turn = np.array([[0.6, -0.8, 5], [0.8, 0.6, -9]])
    found = similarity(mapped(turn, template(points=4)))
    expected = np.linalg.inv(np.vstack([turn, [0, 0, 1]]))[:2]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_never_mirrors(recorded):
    mirrored = FACE * [-1, 1] + [112, 0]  # left and right stay with their numbers
    assert np.linalg.det(similarity(mirrored)[:, :2]) > 0
    dets = np.linalg.det(similarity(recorded["landmarks"])[..., :2])
    assert recorded["adaface_mtcnn_reflected"].any() and (dets > 0).all()


def test_faces_without_a_transform():
    faces = np.stack([FACE] * 5)
    faces[1, 2, 0] = np.nan
    faces[2] = 40.0
    faces[3, 0, 1] = np.inf
    matrices = similarity(faces.reshape(5, 1, 5, 2))
    assert matrices.shape == (5, 1, 2, 3)
    bad = np.isnan(matrices).all(axis=(1, 2, 3))
    assert bad.tolist() == [False, True, True, True, False]
    assert np.isfinite(matrices[~bad]).all()
    assert "expected finite numbers" in fault(faces[1])
    assert "expected distinct points" in fault(faces[2])
    assert "expected finite numbers" in fault(faces[3])


def test_no_turn_fits_equally_well():
    """Points of which every turn is as good as every other: no singular matrix."""
    places = (template() - template().mean(axis=0)) @ [1, 1j]
    other = np.random.default_rng(0).normal(size=(5, 2)) @ [1, 1j]
    other -= other.mean()
    other -= places * np.vdot(places, other) / np.vdot(places, places)
    points = np.stack([other.real, other.imag], axis=-1)
    assert np.isnan(similarity(points)).all()
    assert "expected distinct points of a face" in fault(points)


@pytest.mark.parametrize(
    "points",
    [FACE * [1, -1] + [0, 112], FACE[:, ::-1], FACE[[3, 4, 2, 0, 1]]],
    ids=["upside down", "x and y exchanged", "mouth first"],
)
def test_eyes_not_above_the_mouth_are_noticed(points):
    assert "expected the eyes above the mouth" in fault(points)
    assert np.isfinite(similarity(points)).all()


def test_a_face_is_without_fault(recorded):
    assert fault(FACE) is None
    assert fault(template(points=4)) is None
    assert fault(recorded["image_landmarks"][0]) is None


@pytest.mark.parametrize("shape", [(5,), (3, 2), (5, 3), (2, 6, 2)])
def test_other_shapes_are_an_error(shape):
    with pytest.raises(ValueError, match="landmarks: got"):
        similarity(np.zeros(shape))


def test_without_a_transform_the_crop_is_black():
    image = np.full((20, 30, 3), 200, np.uint8)
    crop = tf.function(aligned)(image, np.full((2, 3), np.nan))
    assert crop.shape == (112, 112, 3) and not crop.numpy().any()
