"""An evaluation's pictures with landmarks are aligned; the others are resized."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.degradation import steps
from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.sources.chosen_records import ChosenRecords
from qface_jax.data_pipelines.stream import alignment, decoding, faces
from support.image_files import encoded

COUNT = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Smooth pictures of several sizes, and the points of a turned face in each."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    landmarks = []
    for i in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 8, 3)).astype(np.uint8))
        wide = coarse.resize((150 + 10 * i, 140), Image.BICUBIC)
        (folder / f"{i}.png").write_bytes(encoded(np.asarray(wide)))
        angle = 0.2 * (i - 2)
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        landmarks.append((alignment.template() - 56) @ turn * 0.8 + [75, 70])
    return folder, np.array(landmarks, np.float32)


def opened(files, landmarks):
    return BenchmarkImages(
        "mini", files[0], [f"{i}.png" for i in range(COUNT)], landmarks=landmarks
    )


def seen(images, *, side=112, batch_size=2, **options):
    return np.concatenate(
        list(faces.eval_batches(images, side=side, batch_size=batch_size, **options))
    )


def by_hand(images, row, side=112):
    """One picture, decoded by Pillow and warped by itself."""
    picture = np.asarray(Image.open(io.BytesIO(images.fetch([row])[0])))
    matrix = alignment.similarity(images.landmarks[row])
    crop = alignment.aligned(picture, matrix)
    return np.asarray(steps.down_up(crop, side=side, antialias=True))


@pytest.mark.parametrize("points", [5, 4])
@pytest.mark.parametrize("side", [112, 14])
def test_pictures_with_landmarks_are_aligned(files, points, side):
    images = opened(files, files[1][:, :points])
    together = seen(images, side=side)
    assert together.shape == (COUNT, 112, 112, 3) and together.dtype == np.uint8
    for row, picture in enumerate(together):
        np.testing.assert_array_equal(picture, by_hand(images, row, side))
    assert np.ptp(together, axis=(1, 2, 3)).min() > 30  # they show something


def test_pictures_with_landmarks_are_not_resized(files):
    images = opened(files, files[1])
    expected = seen(images)
    np.testing.assert_array_equal(seen(images, resize="stretch"), expected)
    np.testing.assert_array_equal(seen(images, batch_size=5, workers=1), expected)


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_pictures_without_landmarks_are_only_resized(files, resize):
    images = opened(files, None)
    for row, picture in enumerate(seen(images, resize=resize)):
        file = np.asarray(Image.open(files[0] / f"{row}.png"))
        np.testing.assert_array_equal(picture, decoding.fit(file, resize))


def test_chosen_pictures_keep_their_transforms(files):
    images, rows = opened(files, files[1]), [3, 0, 3, 4]
    chosen = ChosenRecords("chosen", images.fetch, rows, transforms=images.transforms)
    expected = np.stack([by_hand(images, row) for row in rows])
    np.testing.assert_array_equal(seen(chosen), expected)
    part = chosen.part(1, 3)
    assert len(part) == 2
    np.testing.assert_array_equal(seen(part), expected[1:3])
    np.testing.assert_array_equal(seen(part.part(1, 2)), expected[2:3])
    without = ChosenRecords("chosen", images.fetch, rows)
    assert without.transforms is None and without.part(0, 2).transforms is None


def test_what_cannot_be_aligned_is_black_and_stops_nothing(files):
    landmarks = files[1].copy()
    landmarks[1] = np.nan
    images = opened(files, landmarks)
    images.files[3] = "absent.png"
    together = seen(images)
    assert not together[[1, 3]].any()
    assert sorted(images.failures) == [1, 3]
    for row in (0, 2, 4):
        np.testing.assert_array_equal(together[row], by_hand(images, row))
