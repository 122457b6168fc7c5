"""One rule for what a picture is, wherever one is read."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.sources.image_list import OK, decoded_batches, open_images
from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.data_pipelines.stream import faces, picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.data_pipelines.tools import preview
from qface_jax.data_pipelines.tools.importer import import_source
from qface_jax.data_pipelines.tools.inspection import inspect_source
from qface_jax.errors import DataError
from support.kept_source import batches
from support.recordio_writer import jpeg

FACE = Image.open(io.BytesIO(jpeg(0)))
GREY16 = Image.fromarray(np.asarray(FACE.convert("L")).astype(np.uint16) * 257)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation, transpose):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(FACE.transpose(transpose), "PNG", exif=exif)


def half(data):
    return data[: len(data) // 2] + b"\xff\xd9"


# What is the same face, with how far its pixels may be off.
GOOD = {
    "jpeg": (jpeg(0), 0),
    "trailing": (jpeg(0) + bytes(20), 0),
    "png": (saved(FACE, "PNG"), 0),
    "upside_down": (turned(3, Image.Transpose.ROTATE_180), 0),
    "turned": (turned(6, Image.Transpose.ROTATE_90), 0),
    "turned_jpeg": (
        saved(
            FACE,
            "JPEG",
            quality=95,
            exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\1\0\0\0\0\0\0",
        ),
        3,
    ),
    "webp": (saved(FACE, "WEBP", lossless=True), 0),
    "bmp": (saved(FACE, "BMP"), 0),
    "tiff": (saved(FACE, "TIFF"), 0),
    "gif": (saved(FACE, "GIF"), 12),
    "alpha": (saved(FACE.convert("RGBA"), "PNG"), 0),
    "palette": (saved(FACE.quantize(256), "PNG"), 12),
    "cmyk": (saved(FACE.convert("CMYK"), "JPEG", quality=95), 3),
    "progressive": (saved(FACE, "JPEG", quality=95, progressive=True), 3),
    "sixteen_bit_png": (saved(GREY16, "PNG"), None),
    "sixteen_bit_tiff": (saved(GREY16, "TIFF"), None),
}
BAD = {
    "empty": (b"", "not a picture: empty"),
    "text": (b"hello", "not a picture, or a damaged one"),
    "cut": (jpeg(0)[:-300], "cut short"),
    "unmarked": (jpeg(0)[:-2], "cut short"),
    "half": (half(jpeg(0)), "cut short"),
    "half_progressive": (half(saved(FACE, "JPEG", progressive=True)), "cut short"),
    "cut_png": (saved(FACE, "PNG")[:-500], "cut short"),
    "huge": (saved(Image.new("1", (19_000, 10_000)), "PNG"), "19,000 x 10,000 px"),
    "huge_tiff": (
        saved(Image.new("1", (9_000, 8_000)), "TIFF", compression="group4"),
        "9,000 x 8,000 px",
    ),
    "thin": (saved(Image.new("L", (3_000, 1)), "PNG"), "3,000 x 1 px"),
    "animated": (
        saved(FACE, "GIF", save_all=True, append_images=[FACE.rotate(90)]),
        "animated",
    ),
}
KINDS = GOOD | BAD


def folder(root, kind):
    """The file between good ones, all called .jpg."""
    (root / "ann").mkdir(parents=True)
    (root / "bob").mkdir()
    (root / "ann" / "0.jpg").write_bytes(KINDS[kind][0])
    for number in range(1, 4):
        (root / "bob" / f"{number}.jpg").write_bytes(jpeg(number))
    return root


def inspected(root):
    facts = inspect_source(open_source("folder", [root]))
    if facts["sample"]["broken"]:
        raise DataError("; ".join(facts["warnings"]))


def imported(root):
    source, out = open_source("folder", [root]), root.parent / "out"
    report = import_source(source, out, skip_broken=True)
    if report["skipped"]:
        raise DataError(report["examples"][0])
    stored, _ = open_source("array_record", [out]).fetch(np.array([0]))
    return picture.pixels(picture.read(stored[0]))


def trained(root):
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    source = open_source("folder", [root])
    (batch,) = batches(
        source, recipe="clean", params=params, batch_size=4, total_steps=1
    )
    return batch["images"][batch["labels"] == 0][0]


def scored(root):
    images = open_images(root)
    ((pictures, statuses),) = decoded_batches(images, batch_size=4, resize="crop")
    if statuses[0].status != OK:
        raise DataError(statuses[0].message)
    return pictures[0]


def previewed(root):
    source = open_source("folder", [root])
    return preview._originals(source, np.array([0]), "crop")[0][0]


def evaluated(root):
    class Pairs:
        name = "pairs"

        def __len__(self):
            return 2

        def fetch(self, indices):
            return [(root / "ann" / "0.jpg").read_bytes() for _ in indices]

    (images,) = faces.eval_batches(Pairs(), side=112, batch_size=2)
    return images[0]


PLACES = (inspected, imported, trained, scored, previewed, evaluated)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_verdict_everywhere(tmp_path, kind, place):
    root = folder(tmp_path / "set", kind)
    if kind in BAD:
        with pytest.raises(DataError, match=BAD[kind][1]):
            place(root)
        return
    image, off = place(root), GOOD[kind][1]
    if image is not None:
        expected = FACE if off is not None else FACE.convert("L").convert("RGB")
        error = np.abs(image.astype(int) - np.asarray(expected).astype(int))
        assert error.mean() <= (off or 0)


@pytest.mark.parametrize("kind", ["jpeg", "trailing", "png"])
def test_common_pictures_stay_as_they_are(kind):
    assert picture.read(KINDS[kind][0]).encoded is KINDS[kind][0]


def test_a_flat_corner_is_no_damage():
    flat = saved(Image.new("RGB", (112, 112), (10, 20, 30)), "JPEG")
    assert picture.pixels(picture.read(flat)).shape == (112, 112, 3)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    root = folder(tmp_path / "set", "jpeg")
    os.mkfifo(root / "ann" / "1.jpg")
    assert len(open_source("folder", [root])) == 4
    images = open_images(root)
    assert len(images) == 5
    with pytest.raises(PictureError, match="no regular file"):
        images.read(1)


def test_endings_that_are_left_out_are_named(tmp_path):
    root = folder(tmp_path / "set", "jpeg")
    for person, name in (("ann", "1.heic"), ("cy", "1.heic"), ("cy", "2.HEIC")):
        (root / person).mkdir(exist_ok=True)
        (root / person / name).write_bytes(b"x")
    (root / "bob" / "9.BMP").write_bytes(KINDS["bmp"][0])
    source = open_source("folder", [root])
    assert len(source) == 5
    (note,) = (n for n in source.describe()["notes"] if "endings" in n or ".heic" in n)
    assert "3 .heic" in note and "1 of which they leave without" in note
