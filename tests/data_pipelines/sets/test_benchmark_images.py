"""Images of a benchmark: one that cannot be used is black, named and counted."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.stream import alignment
from support.image_files import encoded, noise

JPEG = encoded(noise(120, 130), "JPEG", quality=95)
FACE = alignment.template().astype(np.float32) + 4


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def images(folder, files, **options):
    return BenchmarkImages("mini", folder, files, **options)


def assert_black(content):
    assert pixels(content).shape == (112, 112, 3) and not pixels(content).any()


def test_files_come_as_they_are_in_the_order_asked(tmp_path):
    contents = {"a.jpg": JPEG, "sub/b.png": encoded(noise(7, 9, seed=1))}
    (tmp_path / "sub").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    opened = images(tmp_path, list(contents), facts={"counts": {"images": 2}})
    assert len(opened) == 2 and opened.transforms is None
    got = opened.fetch(np.array([1, 0, 1]))
    assert got == [contents["sub/b.png"], JPEG, contents["sub/b.png"]]
    assert opened.failures == {}
    assert opened.describe() == {
        "set": "mini", "path": str(tmp_path), "images": 2, "counts": {"images": 2}
    }  # fmt: skip


def test_a_turned_photograph_comes_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(noise(30, 20), "JPEG", exif=exif))
    assert pixels(images(tmp_path, ["a.jpg"]).fetch([0])[0]).shape == (30, 20, 3)


def absent(path):
    pass


def cut(path):
    path.write_bytes(JPEG[: len(JPEG) // 2])


def cut_before_the_end_mark(path):
    path.write_bytes(JPEG[: len(JPEG) // 2] + b"\xff\xd9")


def damaged(path):
    png = bytearray(encoded(noise(40, 40)))
    png[200:260] = b"\0" * 60
    path.write_bytes(png)


def no_picture(path):
    path.write_text("<html>404</html>")


def empty(path):
    path.touch()


def animated(path):
    frames = [Image.fromarray(noise(20, 20, seed)) for seed in (0, 1)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def too_long(path):
    path.write_bytes(encoded(noise(400, 2)))


def folder(path):
    path.mkdir()


def fifo(path):
    os.mkfifo(path)


def loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (absent, "cannot be read: No such file"),
        (cut, "cut short"),
        (cut_before_the_end_mark, "cut short"),
        (damaged, "damaged"),
        (no_picture, "not a picture"),
        (empty, "empty"),
        (animated, "animated"),
        (too_long, "too large"),
        (folder, "no regular file"),
        (fifo, "no regular file"),
        (loop, "cannot be read: "),
    ],
)
def test_an_unusable_file_is_black_and_named(tmp_path, make, reason):
    (tmp_path / "good.jpg").write_bytes(JPEG)
    make(tmp_path / "bad.jpg")
    opened = images(tmp_path, ["good.jpg", "bad.jpg", "good.jpg"])
    first, bad, last = opened.fetch(range(3))
    assert first == last == JPEG
    assert_black(bad)
    assert list(opened.failures) == [1]
    assert opened.failures[1].startswith(f"{tmp_path / 'bad.jpg'}: ")
    assert reason in opened.failures[1]


def test_a_name_that_no_file_can_have(tmp_path):
    opened = images(tmp_path, ["a\0b.jpg", "x" * 300])
    for content in opened.fetch([0, 1]):
        assert_black(content)
    assert sorted(opened.failures) == [0, 1]


@pytest.mark.parametrize("points", [5, 4])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda face: np.full_like(face, np.nan),
        lambda face: np.where(np.arange(2) == 1, np.inf, face),
        lambda face: np.concatenate([face[:-1], [[np.nan, 3]]]),
        lambda face: np.full_like(face, 17),
    ],
)
def test_a_face_that_cannot_be_placed(tmp_path, points, wrong):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    face = FACE[:points]
    landmarks = np.stack([face, wrong(face), face]).astype(np.float32)
    opened = images(tmp_path, ["a.jpg"] * 3, landmarks=landmarks)
    assert opened.transforms.shape == (3, 2, 3)
    assert np.isnan(opened.transforms).all(axis=(1, 2)).tolist() == [0, 1, 0]
    first, bad, last = opened.fetch(range(3))
    assert first == last == JPEG
    assert_black(bad)
    assert list(opened.failures) == [1]
    assert "a.jpg: landmarks: got " in opened.failures[1]


def test_the_fingerprint_is_of_folder_list_and_landmarks(tmp_path):
    landmarks = np.stack([FACE, FACE])
    moved = landmarks + np.float32(0.25)
    opened = [
        images(tmp_path, ["a", "b"]),
        images(tmp_path, ["b", "a"]),
        images(tmp_path, ["ab"]),
        images(tmp_path / "x", ["a", "b"]),
        images(tmp_path, ["a", "b"], landmarks=landmarks),
        images(tmp_path, ["a", "b"], landmarks=moved),
    ]
    assert len({each.fingerprint() for each in opened}) == len(opened)
    assert images(tmp_path, ("a", "b")).fingerprint() == opened[0].fingerprint()


def test_a_stamp_changes_with_the_picture(tmp_path):
    names = ["a.jpg", "gone.jpg", "a\0b.jpg", "b.jpg"]
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(JPEG)
        os.utime(tmp_path / name, ns=(0, 1_600_000_000_000_000_007))
    opened = images(tmp_path, names)
    before = opened.stamps([3, 0, 1, 2, 0])
    kept = [len(JPEG), 1_600_000_000_000_000_007]
    assert before.dtype == np.int64
    assert before.tolist() == [kept, kept, [-1, -1], [-1, -1], kept]
    (tmp_path / "a.jpg").write_bytes(JPEG)  # of the same size
    (tmp_path / "gone.jpg").symlink_to("b.jpg")
    a, gone, b = opened.stamps([0, 1, 3]).tolist()
    assert a[0] == len(JPEG) and a[1] > kept[1]
    assert gone == b == kept
    assert opened.stamps([]).shape == (0, 2)
