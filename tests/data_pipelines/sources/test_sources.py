"""Every source behind the protocol, and what it refuses."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.sources.selected_records import large_identities
from qface_jax.data_pipelines.sources.skipping_source import SkippingSource
from qface_jax.data_pipelines.sources.source import (
    detect_source,
    open_source,
    record_name,
)
from qface_jax.data_pipelines.stream import faces, picture
from qface_jax.data_pipelines.tools.known_sets import KNOWN_SETS, compare_with_known
from qface_jax.errors import ConfigError, DataError
from qface_jax.tables import SOURCES
from support.image_files import noise
from support.recordio_writer import (
    RecordWriter,
    jpeg,
    payload,
    write_indexed,
    write_plain,
)

LABELS = [0, 0, 1, 2, 2, 2]
IMAGES = [jpeg(i) for i in range(6)]


def opened(source, path="", **changes):
    return open_source(source, [path], **changes)


def write_folder(root, counts, suffix=".jpg"):
    for person, count in counts.items():
        (root / person).mkdir(parents=True)
        for i in range(count):
            (root / person / f"{i}{suffix}").write_bytes(f"{person}{i}".encode())
    return root


def check_protocol(source, n, num_classes):
    labels = source.labels()
    assert len(source) == n and source.num_classes == num_classes
    assert labels.shape == (n,) and labels.dtype == np.int32
    assert labels.min() >= 0 and labels.max() == num_classes - 1
    rows = np.array([n - 1, 0, n // 2, 0])
    images, some = source.fetch(rows)
    assert len(images) == 4 and all(type(image) is bytes for image in images)
    assert images[1] == images[3]
    assert some.dtype == np.int32
    np.testing.assert_array_equal(some, labels[rows])
    facts = source.describe()
    assert facts["source"] == source.name
    assert (facts["images"], facts["identities"]) == (n, num_classes)
    assert source.name in SOURCES


@pytest.mark.parametrize("as_file", [True, False])
def test_mxnet(tmp_path, as_file):
    folder = write_indexed(tmp_path, LABELS, IMAGES)
    source = opened("mxnet", folder / "train.rec" if as_file else folder)
    check_protocol(source, 6, 3)
    assert source.fetch(np.arange(6))[0] == IMAGES
    assert source.describe()["notes"] == []
    assert record_name(source, 4).endswith("train.rec: key 5")


def test_synthetic():
    options = {"identities": 3, "images_per_identity": 2}
    check_protocol(open_source("synthetic", options=options), 6, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png"])
def test_folder_is_sorted_by_name(tmp_path, suffix):
    counts = {"zoe": 1, "ann": 2, "Bob": 3}
    source = opened("folder", write_folder(tmp_path, counts, suffix))
    check_protocol(source, 6, 3)
    images, labels = source.fetch(np.arange(6))
    assert images == [b"Bob0", b"Bob1", b"Bob2", b"ann0", b"ann1", b"zoe0"]
    assert labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert record_name(source, 3) == str(tmp_path / "ann" / f"0{suffix}")


def test_folder_leaves_out_what_is_no_image_and_says_so(tmp_path):
    write_folder(tmp_path, {"ann": 1, "bob": 1, ".hidden": 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("x")
    (tmp_path / "bob" / "notes.txt").write_text("x")
    source = opened("folder", tmp_path)
    assert (len(source), source.num_classes) == (2, 2)
    notes = " ".join(source.describe()["notes"])
    assert "1 folders hold no image" in notes
    assert "2 files or nested folders" in notes
    assert source.describe()["left_out"] == {
        ".txt": 1,
        "beside the folders of identities": 1,
    }


def test_every_ending_that_the_decoder_reads_is_trained_on(tmp_path):
    Image.init()
    endings = [
        ending for ending, form in Image.EXTENSION.items() if form in picture._FORMATS
    ]
    assert sorted(endings) == sorted(picture.IMAGE_SUFFIXES)
    (tmp_path / "ann").mkdir()
    face = Image.fromarray(noise(112, 112))
    for ending in endings:
        face.save(tmp_path / "ann" / f"face{ending}", save_all=False)
    source = SkippingSource(opened("folder", tmp_path), across_identities=True)
    params = base.get_config().degrade.clean
    stream = faces.stream(
        source, batch_size=len(endings), recipe="clean", params=params, seed=0,
        start_step=0, total_steps=1,
    )  # fmt: skip
    (batch,) = stream
    assert len(source) == len(endings) and not source.broken
    # A GIF has 256 colours, a JPEG is not exact; none is black.
    assert batch["images"].astype(int).mean(axis=(1, 2, 3)).min() > 100


def test_folder_with_names_that_are_not_utf8(tmp_path):
    person = bytes(tmp_path) + b"/\xff\xfename"

    os.mkdir(person)
    with open(person + b"/\xe9.jpg", "wb") as file:
        file.write(b"image")
    source = opened("folder", tmp_path)
    assert source.fetch(np.array([0]))[0] == [b"image"]


@pytest.mark.parametrize("content", ["nothing", "flat", "texts"])
def test_folder_without_images(tmp_path, content):
    if content == "flat":
        (tmp_path / "1.jpg").write_bytes(b"x")
    if content == "texts":
        write_folder(tmp_path, {"ann": 2}, ".txt")
    with pytest.raises(DataError, match=r"no image: expected <identity>/<image>\.jpg"):
        opened("folder", tmp_path)


def test_folder_image_that_is_removed_is_named(tmp_path):
    source = opened("folder", write_folder(tmp_path, {"ann": 2}))
    (tmp_path / "ann" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"ann/1\.jpg: cannot be read"):
        source.fetch(np.array([0, 1]))


@pytest.mark.parametrize("source", ["mxnet", "folder", "array_record"])
def test_path_that_is_not_there(tmp_path, source):
    with pytest.raises(DataError, match="nowhere"):
        opened(source, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"data\.path: empty"):
        opened(source)


def test_unknown_source():
    with pytest.raises(ConfigError, match=r"source 'tar': unknown; must be one of"):
        opened("tar")


def test_several_record_files_without_train_rec(tmp_path):
    write_plain(tmp_path, LABELS, IMAGES)
    (tmp_path / "train.rec").rename(tmp_path / "a.rec")
    assert len(opened("mxnet", tmp_path)) == 6
    (tmp_path / "b.rec").write_bytes((tmp_path / "a.rec").read_bytes())
    with pytest.raises(DataError, match=r"got a\.rec, b\.rec"):
        opened("mxnet", tmp_path)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        (1.5, r"key 1: label 1\.5 is no integer"),
        (float("nan"), "key 1: label nan is no integer"),
        (-1.0, "key 1: label -1 is negative"),
        (3.0, "key 1: label 3 is not below the 3 identities of the property file"),
        (2.0**24, r"key 1: label 1\.67772e\+07 is not below 2\*\*24"),
    ],
)
def test_labels_that_cannot_be(tmp_path, label, problem):
    writer = RecordWriter()
    writer.add(0, payload(IMAGES[0], 0.0))
    writer.add(1, payload(IMAGES[1], label))
    folder = writer.save(tmp_path)
    (folder / "property").write_text("3,112,112\n")
    with pytest.raises(DataError, match=problem):
        opened("mxnet", folder)


@pytest.mark.parametrize("text", ["", "112x112", "-3,112,112"])
def test_property_file_that_says_nothing(tmp_path, text):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    (folder / "property").write_text(text)
    with pytest.raises(DataError, match="expected 'identities,height,width'"):
        opened("mxnet", folder)


@pytest.mark.parametrize(
    "text",
    ["3,112,112\n", "\ufeff3,112,112\n", "3 112 112\n", " 3 , 112 , 112\r\n", "3\n"],
)
def test_property_file_in_other_forms(tmp_path, text):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    (folder / "property").write_bytes(text.encode())
    assert opened("mxnet", folder).declared == 3


def test_counts_that_disagree_are_logged(tmp_path, caplog):
    folder = write_indexed(tmp_path, LABELS, IMAGES)
    (folder / "property").write_text("10,112,112\nshuffled\n")
    lines = (folder / "train.idx").read_text().splitlines(keepends=True)
    # One image, one identity record and the bytes after them are not listed.
    (folder / "train.idx").write_text("".join(lines[:5] + lines[6:8] + lines[9:]))
    with caplog.at_level(logging.WARNING):
        source = opened("mxnet", folder)
    assert (len(source), source.num_classes) == (5, 3)
    assert "property file declares 10 identities, the labels reach 3" in caplog.text
    assert "header record declares 6 images, the .idx lists 5" in caplog.text
    assert "2 identity records, the labels reach 3" in caplog.text


def test_published_sizes():
    for known in KNOWN_SETS:
        images = known.images or 1234
        assert compare_with_known("x", known.identities, images) == (known.name, [])
    name, notes = compare_with_known("x", 85_742, 17)
    assert name is None and "looks like MS1MV2" in notes[0]
    name, notes = compare_with_known("data/faces_emore/train.rec", 3, 17)
    assert name is None and "3 identities and 17 images" in notes[0]
    assert compare_with_known("data/mine", 3, 17) == (None, [])


def test_small_identities_are_left_out(tmp_path, caplog):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    with caplog.at_level(logging.WARNING):
        source = opened("mxnet", folder, drop_small_identities=2)
    check_protocol(source, 5, 2)
    assert source.labels().tolist() == [0, 0, 1, 1, 1]
    assert source.fetch(np.arange(5))[0] == IMAGES[:2] + IMAGES[3:]
    assert "left out 1 identities with 1 images" in caplog.text
    assert source.describe()["left_out_images"] == 1
    assert record_name(source, 2).endswith("key 3")


def test_left_out_identities_count_only_those_that_had_images(tmp_path):
    folder = write_plain(tmp_path, [0, 0, 5, 7, 7], IMAGES[:5])
    source = opened("mxnet", folder)
    assert source.num_classes == 8
    large = large_identities(source, 2)
    assert (large.num_classes, large.left_out_identities) == (2, 1)
    assert large.labels().tolist() == [0, 0, 1, 1]


def test_no_identity_is_large_enough(tmp_path):
    folder = write_plain(tmp_path, LABELS, IMAGES)
    with pytest.raises(DataError, match=r"got 9, but the largest identity of .* has 3"):
        opened("mxnet", folder, drop_small_identities=9)


def test_what_lies_there_is_found_out(tmp_path):
    assert detect_source(write_plain(tmp_path / "m", LABELS, IMAGES)) == "mxnet"
    assert detect_source(tmp_path / "m" / "train.rec") == "mxnet"
    assert detect_source(write_folder(tmp_path / "f", {"ann": 1})) == "folder"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dataset_info.json").write_text("{}")
    assert detect_source(tmp_path / "a") == "array_record"
    with pytest.raises(DataError, match="neither a"):
        detect_source(tmp_path / "none")


def test_real_faces(faces_dir):
    lfw = opened("mxnet", faces_dir / "faces_lfw")
    check_protocol(lfw, 7977, 3973)
    check_protocol(large_identities(lfw, 2), 4982, 978)
    check_protocol(opened("mxnet", faces_dir / "faces_celeba"), 5990, 292)
    check_protocol(opened("folder", faces_dir / "folder"), 204, 40)
