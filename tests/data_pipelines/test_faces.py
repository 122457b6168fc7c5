"""The streams: the same from any step and on any hosts, and clear when data is bad."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines import degrade, faces
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces, SyntheticPairs
from qface_jax.errors import ConfigError, DataError

STEPS, BATCH = 7, 8


@pytest.fixture(scope="module")
def source():
    return Kept(SyntheticFaces(identities=5, images_per_identity=4, seed=0))


class Kept:
    """A source held in memory, some records of which can be replaced."""

    def __init__(self, source, replaced=None):
        self.name = "kept"
        self.num_classes = source.num_classes
        self.images, self.all_labels = source.fetch(np.arange(len(source)))
        self.images = list(self.images)
        for index, image in (replaced or {}).items():
            self.images[index] = image

    def __len__(self):
        return len(self.images)

    def labels(self):
        return self.all_labels

    def fetch(self, indices):
        return [self.images[index] for index in indices], self.all_labels[indices]

    def describe(self):
        return {}


def batches(source, recipe="adaface", **changes):
    arguments = {
        "batch_size": BATCH,
        "recipe": recipe,
        "params": base.get_config().degrade[recipe],
        "seed": 4,
        "start_step": 0,
        "total_steps": STEPS,
    }
    return list(faces.stream(source, **(arguments | changes)))


@pytest.fixture(scope="module")
def whole(source):
    return batches(source)


def assert_same(got, expected):
    assert len(got) == len(expected)
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_array_equal(left["images"], right["images"])
        np.testing.assert_array_equal(left["labels"], right["labels"])


def test_shapes_and_types(whole):
    assert len(whole) == STEPS
    for batch in whole:
        assert sorted(batch) == ["images", "labels"]
        assert batch["images"].shape == (BATCH, 112, 112, 3)
        assert batch["images"].dtype == np.uint8
        assert batch["labels"].shape == (BATCH,)
        assert batch["labels"].dtype == np.int32


@pytest.mark.parametrize("start", [1, 2, 5, 6])
def test_a_restart_goes_on_where_the_run_stopped(source, whole, start):
    assert_same(batches(source, start_step=start), whole[start:])


def test_a_finished_run_has_no_batches_left(source):
    assert batches(source, start_step=STEPS) == []


def test_the_stream_does_not_depend_on_the_number_of_hosts(source, whole):
    parts = [batches(source, host=host, hosts=2) for host in range(2)]
    together = [
        {
            key: np.concatenate([part[step][key] for part in parts])
            for key in ("images", "labels")
        }
        for step in range(STEPS)
    ]
    assert_same(together, whole)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_stream_does_not_depend_on_the_workers(source, whole, workers):
    assert_same(batches(source, workers=workers), whole)


def test_a_draw_does_not_depend_on_the_batch_size(source, whole):
    small = batches(source, batch_size=2, total_steps=4)
    rows = np.concatenate([batch["images"] for batch in small])
    np.testing.assert_array_equal(rows, whole[0]["images"])


def test_every_epoch_holds_every_record_once(source):
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    # 20 records, batches of 8: the second epoch begins inside of the third batch.
    seen = batches(source, recipe="clean", params=params, total_steps=5)
    pictures = [image.tobytes() for batch in seen for image in batch["images"]]
    assert len(set(pictures[:20])) == 20
    assert set(pictures[:20]) == set(pictures[20:])
    assert pictures[:20] != pictures[20:]


def test_labels_belong_to_their_pictures(source):
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    of = {
        np.asarray(Image.open(io.BytesIO(image))).tobytes(): label
        for image, label in zip(source.images, source.all_labels, strict=True)
    }
    for batch in batches(source, recipe="clean", params=params):
        for image, label in zip(batch["images"], batch["labels"], strict=True):
            assert of[image.tobytes()] == label


def test_another_seed_is_another_stream(source, whole):
    other = batches(source, seed=5)
    assert not np.array_equal(other[0]["images"], whole[0]["images"])


@pytest.fixture(scope="module")
def paired(source):
    return batches(source, "qgface", beside=base.get_config().degrade.clean)


def test_a_pair_is_the_single_view_and_a_clean_one(source, paired):
    single = batches(source, "qgface")
    plain = base.get_config().degrade.clean
    plain.flip_probability = 0.0
    originals = batches(source, "clean", params=plain)
    for pair, q, original in zip(paired, single, originals, strict=True):
        assert pair["images"].shape == (BATCH, 2, 112, 112, 3)
        assert pair["images"].dtype == np.uint8
        np.testing.assert_array_equal(pair["images"][:, 0], q["images"])
        np.testing.assert_array_equal(pair["labels"], q["labels"])
        for k, expected in zip(pair["images"][:, 1], original["images"], strict=True):
            mirrored = np.array_equal(k, expected[:, ::-1])
            assert mirrored or np.array_equal(k, expected)


def test_the_views_of_a_pair_are_mirrored_independently(source):
    clean = base.get_config().degrade.clean
    (whole,) = batches(
        source, "clean", batch_size=400, total_steps=1, params=clean, beside=clean
    )
    clean.flip_probability = 0.0
    (original,) = batches(source, "clean", batch_size=400, total_steps=1, params=clean)
    flipped = (whole["images"] != original["images"][:, None]).any(axis=(2, 3, 4))
    np.testing.assert_allclose(flipped.mean(axis=0), 0.5, atol=0.1)
    assert abs(np.corrcoef(flipped.T)[0, 1]) < 0.15


def test_pairs_follow_the_settings_of_the_clean_recipe(source):
    clean = base.get_config().degrade.clean
    clean.flip_probability = 1.0
    (mirrored,) = batches(source, "clean", total_steps=1, beside=clean)
    clean.flip_probability = 0.0
    (plain,) = batches(source, "clean", total_steps=1, beside=clean)
    np.testing.assert_array_equal(
        mirrored["images"][:, 1, :, ::-1], plain["images"][:, 1]
    )
    np.testing.assert_array_equal(mirrored["images"][:, 0], plain["images"][:, 0])


def test_pairs_do_not_depend_on_hosts_restarts_and_batch_size(source, paired):
    clean = base.get_config().degrade.clean
    parts = [
        batches(source, "qgface", beside=clean, host=host, hosts=2, start_step=5)
        for host in range(2)
    ]
    together = [
        {
            key: np.concatenate([part[step][key] for part in parts])
            for key in ("images", "labels")
        }
        for step in range(STEPS - 5)
    ]
    assert_same(together, paired[5:])
    small = batches(source, "qgface", beside=clean, batch_size=2, total_steps=4)
    rows = np.concatenate([batch["images"] for batch in small])
    np.testing.assert_array_equal(rows, paired[0]["images"])


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
    "damaged", [b"", b"no picture at all", b"\xff\xd8\xff\xe0 cut short"]
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
    monkeypatch.setattr(
        faces.decoding, "is_common", lambda encoded: encoded[:2] in (b"\xff\xd8", b"II")
    )
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


def test_unknown_recipes_are_refused(source):
    with pytest.raises(ConfigError, match=r"degrade\.recipe: got 'blur', must be one"):
        faces.stream(
            source,
            batch_size=8,
            recipe="blur",
            params=base.get_config().degrade.clean,
            seed=0,
            start_step=0,
            total_steps=1,
        )


def test_batches_that_hosts_cannot_share_are_refused(source):
    with pytest.raises(ConfigError, match=r"data\.batch_size: got 8"):
        batches(source, hosts=3)


@pytest.fixture(scope="module")
def pairs():
    return SyntheticPairs(identities=4, pairs=5, seed=0)


def test_evaluation_keeps_the_order_and_the_last_short_batch(pairs):
    got = list(faces.eval_batches(pairs, side=112, batch_size=4))
    assert [len(batch) for batch in got] == [4, 4, 2]
    assert all(batch.dtype == np.uint8 for batch in got)
    together = np.concatenate(got)
    for index, image in enumerate(pairs.fetch(np.arange(10))):
        expected = np.asarray(Image.open(io.BytesIO(image)))
        np.testing.assert_array_equal(together[index], expected)


def test_evaluation_at_a_lower_resolution_is_the_golden_down_up(pairs):
    full = np.concatenate(list(faces.eval_batches(pairs, side=112, batch_size=10)))
    low = np.concatenate(list(faces.eval_batches(pairs, side=7, batch_size=3)))
    for picture, seen in zip(full, low, strict=True):
        expected = degrade.down_up(picture, side=7, antialias=True)
        np.testing.assert_array_equal(seen, expected)


def test_evaluation_names_a_damaged_image(pairs):
    class Damaged:
        name = "lfw"
        issame = pairs.issame

        def __len__(self):
            return len(pairs)

        def fetch(self, indices):
            images = pairs.fetch(indices)
            return [b"?" if i == 6 else x for i, x in zip(indices, images, strict=True)]

    with pytest.raises(DataError, match="lfw: image 6"):
        list(faces.eval_batches(Damaged(), side=14, batch_size=4))


def test_evaluation_refuses_sides_out_of_range(pairs):
    with pytest.raises(ConfigError, match=r"eval\.resolutions: got 200"):
        faces.eval_batches(pairs, side=200, batch_size=4)


class Wide:
    """Pictures twice as wide as high, as pairs and as records."""

    name, num_classes = "wide", 1

    def __init__(self):
        smooth = np.random.default_rng(0).integers(0, 256, (4, 8, 3)).astype(np.uint8)
        self.picture = Image.fromarray(smooth).resize((160, 80), Image.BICUBIC)
        buffer = io.BytesIO()
        self.picture.save(buffer, "PNG")
        self.image = buffer.getvalue()

    def __len__(self):
        return 4

    def fetch(self, indices):
        return [self.image] * len(indices), np.zeros(len(indices), np.int32)


class WidePairs(Wide):
    def fetch(self, indices):
        return super().fetch(indices)[0]


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_the_streams_resize_as_they_are_told(resize):
    wide = Wide()
    if resize == "stretch":
        expected = wide.picture.resize((112, 112), Image.BICUBIC)
    else:
        expected = wide.picture.resize((224, 112), Image.BILINEAR)
        expected = expected.crop((56, 0, 168, 112))
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    changes = {"batch_size": 2, "total_steps": 1, "params": params, "resize": resize}
    seen = batches(wide, "clean", **changes)[0]["images"]
    pairs = faces.eval_batches(WidePairs(), side=112, batch_size=2, resize=resize)
    for pictures in (seen, next(pairs)):
        off = np.abs(pictures.astype(int) - np.asarray(expected).astype(int))
        assert off.max() <= 2
