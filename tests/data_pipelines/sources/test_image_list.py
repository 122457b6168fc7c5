"""Lists of images without labels: what is found, and what is said of a bad one."""

import errno
import os
import pickle
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax.data_pipelines.sources import image_list
from qface_jax.data_pipelines.sources.image_list import (
    decoded_batches,
    open_images,
)
from qface_jax.data_pipelines.stream import decoding
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.data_pipelines.tools.importer import import_source
from qface_jax.errors import DataError
from support.image_files import encoded, noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad files at several depths, and what is no image by its name."""
    root = tmp_path_factory.mktemp("images")
    jpeg = encoded(noise(112, 112), "JPEG")
    contents = {
        "a.png": encoded(noise(112, 112, 1)),
        "b/deep/grey.PNG": encoded(noise(112, 112, 2)[..., 0]),
        "b/tiny.bmp": encoded(noise(20, 16, 3), "BMP"),
        "b/web.webp": encoded(noise(112, 112, 4), "WEBP", lossless=True),
        "broken.jpg": jpeg[: len(jpeg) // 2],
        "empty.jpeg": b"",
        "text.jpg": b"no picture at all",
        "wide.jpg": encoded(noise(224, 112, 5), "JPEG"),
        ".hidden.png": jpeg,
        ".folder/c.png": jpeg,
        "notes.txt": b"nothing",
    }
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "again").symlink_to(root)
    return root


NAMES = [
    "a.png", "b/deep/grey.PNG", "b/tiny.bmp", "b/web.webp", "broken.jpg", "empty.jpeg",
    "text.jpg", "wide.jpg",
]  # fmt: skip


def everything(images, **options):
    options = {"batch_size": 3, "resize": "crop"} | options
    batches = list(decoded_batches(images, **options))
    pictures = np.concatenate([pictures for pictures, _ in batches])
    return pictures, [status for _, statuses in batches for status in statuses]


def test_a_folder_is_listed_at_any_depth_in_order(folder):
    images = open_images(folder)
    assert [images.name(row) for row in range(len(images))] == NAMES
    assert images.fetch([0, 5]) == [(folder / "a.png").read_bytes(), b""]


def test_a_text_file_lists_images(folder, tmp_path):
    file = folder / "b" / "list.txt"
    file.write_text(f"deep/grey.PNG\n\n{folder}/a.png\nnone.png\n")
    images = open_images(file)
    file.unlink()
    names = [images.name(row) for row in range(len(images))]
    assert names == ["deep/grey.PNG", f"{folder}/a.png", "none.png"]
    assert images.read(1) == (folder / "a.png").read_bytes()
    _, statuses = everything(images)
    assert [status.status for status in statuses] == ["ok", "ok", "unreadable"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="got 0 paths of images"):
        open_images(tmp_path / "empty.txt")


def test_stamps_are_those_of_the_files(folder, tmp_path):
    images = open_images(folder)
    stamps = images.stamps([1, 0])
    for name, (size, time) in zip(("b/deep/grey.PNG", "a.png"), stamps, strict=True):
        found = (folder / name).stat()
        assert (size, time) == (found.st_size, found.st_mtime_ns)
    assert image_list.list_paths([tmp_path / "none"]).stamps([0]).tolist() == [[-1, -1]]


def test_every_image_has_a_status_and_a_bad_one_is_black(folder):
    pictures, statuses = everything(open_images(folder))
    assert [status.name for status in statuses] == NAMES
    good = [status.status == image_list.OK for status in statuses]
    assert good == [True] * 4 + [False] * 3 + [True]
    assert {s.status for s in statuses[4:7]} == {image_list.NOT_AN_IMAGE}
    assert statuses[5].message.startswith("not a picture: empty")
    assert "17 bytes that begin with b'no pictu'" in statuses[6].message
    sizes = [(status.width, status.height) for status in statuses]
    assert sizes == [(112, 112)] * 2 + [(20, 16), (112, 112)] + [(0, 0)] * 3 + [
        (224, 112)
    ]
    assert not pictures[4:7].any()
    np.testing.assert_array_equal(pictures[0], noise(112, 112, 1))
    grey = noise(112, 112, 2)[..., :1]
    np.testing.assert_array_equal(pictures[1], np.broadcast_to(grey, (112, 112, 3)))
    np.testing.assert_array_equal(pictures[3], noise(112, 112, 4))


def test_batches_have_their_size_and_their_rows(folder):
    images = open_images(folder)
    sizes = [len(p) for p, _ in decoded_batches(images, batch_size=3, resize="crop")]
    assert sizes == [3, 3, 2]
    whole, _ = everything(images)
    for rows in (range(1, 4), np.array([7, 0, 0]), range(0)):
        batches = list(decoded_batches(images, batch_size=8, resize="crop", rows=rows))
        assert len(batches) == (len(rows) > 0)
        for pictures, statuses in batches:
            np.testing.assert_array_equal(pictures, whole[rows])
            assert [status.name for status in statuses] == [NAMES[r] for r in rows]


def test_a_file_that_has_gone_is_unreadable(folder, tmp_path):
    (tmp_path / "here.png").write_bytes((folder / "a.png").read_bytes())
    (tmp_path / "gone.png").write_bytes(b"")
    images = open_images(tmp_path)
    (tmp_path / "gone.png").unlink()
    pictures, statuses = everything(images)
    assert [s.status for s in statuses] == [image_list.UNREADABLE, image_list.OK]
    assert statuses[0].message == "No such file or directory"
    assert not pictures[0].any()
    with pytest.raises(OSError, match="No such file"):
        images.read(0)


def test_one_file_is_a_list_of_one(folder):
    images = open_images(folder / "a.png")
    pictures, statuses = everything(images)
    assert (len(images), statuses[0].name) == (1, "a.png")
    np.testing.assert_array_equal(pictures[0], noise(112, 112, 1))


def test_a_file_of_pairs_is_a_list(tmp_path):
    faces = [encoded(noise(112, 112, seed)) for seed in range(4)]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((faces, [True, False])))
    images = open_images(tmp_path / "set.bin")
    assert [images.name(row) for row in range(len(images))] == [
        f"image {row}" for row in range(4)
    ]
    np.testing.assert_array_equal(everything(images)[0][3], noise(112, 112, 3))


def test_a_training_set_is_a_list(tmp_path):
    source = SyntheticFaces(identities=2, images_per_identity=2, seed=0)
    import_source(source, tmp_path / "set")
    images = open_images(tmp_path / "set")
    assert images.fetch(range(4)) == source.fetch(np.arange(4))[0]
    assert len({images.name(row) for row in range(4)}) == 4
    assert everything(images)[1][0].status == image_list.OK


def test_real_sets_are_lists(faces_dir):
    records = open_images(faces_dir / "faces_lfw")
    pictures, statuses = everything(records, rows=range(5))
    assert len(records) > 1000
    assert pictures.any(axis=(1, 2, 3)).all()
    assert {status.status for status in statuses} == {image_list.OK}
    assert len(open_images(faces_dir / "lfw_open.bin")) > 1000


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_images(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"no image: expected .*\.gif, at any depth"):
        open_images(tmp_path)


def test_no_more_than_two_batches_are_held(folder):
    read, lock = [], threading.Lock()
    one = (folder / "a.png").read_bytes()

    def count(row):
        with lock:
            read.append(row)
        return one

    images = image_list.ImageList(folder, 1000, name=str, read=count)
    batches = decoded_batches(images, batch_size=5, resize="crop")
    next(batches)
    next(batches)
    batches.close()  # what waits is let go
    assert set(range(10)) <= set(read) <= set(range(15))


def stretched(pixels):
    """The same by Pillow."""
    image = Image.fromarray(pixels).resize((112, 112), Image.Resampling.BICUBIC)
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("size", [(224, 112), (20, 16), (60, 200), (1, 1), (113, 112)])
def test_stretch_keeps_the_whole_picture(size):
    smooth = Image.fromarray(noise(7, 5)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth)
    got = decoding.decode(tf.constant(encoded(pixels)), "stretch").numpy()
    assert np.abs(got - stretched(pixels)).max() <= 2


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_112_px_are_untouched(resize):
    pixels = noise(112, 112)
    got = decoding.decode(tf.constant(encoded(pixels)), resize)
    np.testing.assert_array_equal(got, pixels)


def test_crop_takes_the_middle():
    halves = np.zeros((112, 224, 3), np.uint8)
    halves[:, 112:] = 255
    got = decoding.decode(tf.constant(encoded(halves)), "crop").numpy()
    assert (got[:, :56] == 0).all()
    assert (got[:, 56:] == 255).all()


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="resize: got 'pad'"):
        decoding.decode(tf.constant(encoded(noise(20, 20))), "pad")


def test_folders_too_deep_are_named(tmp_path):
    place = tmp_path
    for _ in range(51):
        place = place / "d"
    place.mkdir(parents=True)
    with pytest.raises(DataError, match="more than 50 deep"):
        open_images(tmp_path)
    Image.new("RGB", (112, 112)).save(place.parent / "a.png")
    place.rmdir()
    assert len(open_images(tmp_path)) == 1


def test_a_folder_without_rights_is_named(tmp_path, monkeypatch):
    def refuse(place):
        raise PermissionError(errno.EACCES, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be listed: Permission denied"):
        open_images(tmp_path)
