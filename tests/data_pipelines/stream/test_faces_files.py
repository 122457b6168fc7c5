"""The streams on files of every kind, and clear about those that are none."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.stream import faces, picture
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.errors import DataError
from support.kept_source import Kept, assert_same, batches


@pytest.fixture(scope="module")
def source():
    return Kept(SyntheticFaces(identities=5, images_per_identity=4, seed=0))


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_every_common_kind_of_file_is_decoded(source):
    original = Image.open(io.BytesIO(source.images[0])).convert("RGB")
    kinds = {
        0: saved(original, "PNG"),
        1: saved(original, "JPEG", quality=95, progressive=True),
        2: saved(original.convert("CMYK"), "JPEG", quality=95),
        3: saved(original, "WEBP", lossless=True),
        4: saved(original, "TIFF"),
        5: saved(original.convert("RGBA"), "PNG"),
        6: saved(original, "BMP"),
    }
    mixed = Kept(SyntheticFaces(5, 4, seed=0), kinds)
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    (batch,) = batches(
        mixed, recipe="clean", params=params, batch_size=20, total_steps=1
    )
    off = np.abs(batch["images"].astype(int) - np.asarray(original).astype(int))
    alike = np.sort(off.mean(axis=(1, 2, 3)))
    assert alike[6] < 3  # the seven of them; all others are other people
    assert alike[7] > 10


def test_grayscale_becomes_rgb(source):
    gray = Image.open(io.BytesIO(source.images[0])).convert("L")
    one = Kept(SyntheticFaces(1, 1, seed=0), {0: saved(gray, "JPEG", quality=95)})
    (batch,) = batches(one, recipe="clean", batch_size=1, total_steps=1)
    assert np.ptp(batch["images"], axis=3).max() == 0


def test_other_sizes_are_fitted_and_cut_in_the_middle():
    wide = np.zeros((56, 100, 3), np.uint8)
    wide[:, 22:78] = (200, 100, 50)
    one = Kept(SyntheticFaces(1, 1, seed=0), {0: saved(Image.fromarray(wide), "PNG")})
    (batch,) = batches(one, recipe="clean", batch_size=1, total_steps=1)
    middle = batch["images"][0, :, 4:-4].astype(int)
    assert np.abs(middle - [200, 100, 50]).max() <= 1


@pytest.mark.parametrize(
    "damaged", [b"no picture at all", b"\xff\xd8\xff\xe0 cut short"]
)
def test_a_damaged_record_is_named(damaged):
    bad = Kept(SyntheticFaces(5, 4, seed=0), {13: damaged})
    with pytest.raises(DataError, match="record 13: not a picture, or a damaged one"):
        batches(bad, recipe="clean")


def test_a_truncated_jpeg_is_named_and_what_comes_before_is_handed_out(source):
    cut = source.images[13][: len(source.images[13]) // 2]
    bad = Kept(SyntheticFaces(5, 4, seed=0), {13: cut})
    stream = faces.stream(
        bad,
        batch_size=1,
        recipe="clean",
        params=base.get_config().degrade.clean,
        seed=4,
        start_step=0,
        total_steps=40,
    )
    handed_out = 0
    with pytest.raises(DataError, match="record 13"):
        for _ in stream:
            handed_out += 1
    whole = batches(source, recipe="clean", batch_size=1, total_steps=handed_out + 1)
    assert whole[handed_out]["labels"] == source.all_labels[13]


def test_what_only_pillow_decodes_is_decoded_on_the_second_attempt(source, monkeypatch):
    """A JPEG whose coding TensorFlow does not know, played by a TIFF."""
    original = Image.open(io.BytesIO(source.images[13]))
    odd = Kept(SyntheticFaces(5, 4, seed=0), {13: saved(original, "TIFF")})
    expected = batches(odd, recipe="clean")
    read, decoded = picture.read, picture._decoded
    monkeypatch.setattr(
        picture,
        "read",
        lambda data: (
            picture.Picture("JPEG", 112, 112, data) if data[:2] == b"II" else read(data)
        ),
    )
    monkeypatch.setattr(picture, "_decoded", lambda data: decoded(read(data).encoded))
    assert_same(batches(odd, recipe="clean"), expected)


def test_a_failing_source_fails_with_its_own_error(source):
    class Failing(Kept):
        def fetch(self, indices):
            if 13 in indices:
                raise DataError("train.rec: truncated at byte 123; copy it again")
            return super().fetch(indices)

    failing = Failing(SyntheticFaces(5, 4, seed=0))
    with pytest.raises(DataError, match=r"^train.rec: truncated at byte 123; copy"):
        batches(failing, recipe="clean")
