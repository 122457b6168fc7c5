"""The recipe qgface against Pillow, and its draws."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from qface_jax.data_pipelines.degradation import resample, steps
from support.degrade_goldens import drawn
from support.degrade_recipes import run, settings


@pytest.fixture(scope="module")
def image():
    return tf.constant(drawn()[0])


PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def through_pillow(image, side, down, up, quality=None):
    small = Image.fromarray(image.numpy()).resize((side, side), PILLOW[down])
    if quality is not None:
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality)
        small = Image.open(file)
    return np.asarray(small.resize((112, 112), PILLOW[up])).astype(int)


def rescaled(image, params):
    """(side, down, up) -> the recipe's rescaled picture for those draws."""
    call = tf.function(lambda row: steps.rescale_with_jpeg(image, row, params))
    low, high = params.rescale_side

    def one(side, down, up):
        share = ((side + 0.5) / 112 - low) / (high - low)
        ways = [(steps.RESCALE_KERNELS.index(way) + 0.5) / 5 for way in (down, up)]
        return call(tf.constant([share, *ways, 0.5, 0.5], tf.float32)).numpy()

    return one


# On the border between two pixels, as at 37 px, Pillow's nearest is either of them.
@pytest.mark.parametrize(
    ("down", "sides"),
    [
        ("nearest", (14, 28, 50)),
        ("bilinear", (14, 37, 50)),
        ("area", (14, 28)),
        ("bicubic", (14, 37, 50)),
        ("lanczos", (14, 37, 50)),
    ],
)
def test_qgface_rescales_as_pillow_does(image, down, sides):
    one = rescaled(image, settings("qgface"))
    for side in sides:
        for up in PILLOW:
            got = one(side, down, up).astype(int)
            off = np.abs(got - through_pillow(image, side, down, up))
            # Pillow works in bytes: it rounds after the rows and after the columns.
            assert off.mean() < 0.4
            assert (off > 1).mean() < 0.02
            assert off.max() <= 8


def test_qgface_area_takes_parts_of_pixels_where_pillow_takes_whole_ones(image):
    got = rescaled(image, settings("qgface"))(37, "area", "nearest")
    exact = resample.resize(image.numpy(), 37, 37, "area", antialias=True)
    taken = (2 * np.arange(112) + 1) * 37 // 224
    expected = np.clip(exact[taken][:, taken], 0, 255)
    assert np.abs(got - expected).max() <= 0.51
    pillow = through_pillow(image, 37, "area", "nearest")
    assert 0.5 < np.abs(got - pillow).mean() < 3


@pytest.mark.parametrize("quality", [75, 20])
def test_qgface_jpeg_is_that_of_pillow_at_the_small_size(image, quality):
    params = settings("qgface", jpeg_probability=1.0, jpeg_quality=(quality, quality))
    plain = settings("qgface")
    for side in (28, 50):
        # The nearest pixels: the small picture is the same to the bit.
        got = rescaled(image, params)(side, "nearest", "nearest").astype(int)
        off = np.abs(got - through_pillow(image, side, "nearest", "nearest", quality))
        assert off.max() <= 1
        without = rescaled(image, plain)(side, "nearest", "nearest").astype(int)
        assert np.abs(got - without).mean() > 1
        # Nothing has been blurred over the edges of the small picture's pixels.
        taken = (2 * np.arange(side) + 1) * 112 // (2 * side)
        back = (2 * np.arange(112) + 1) * side // 224
        np.testing.assert_array_equal(got[taken][:, taken][back][:, back], got)


def test_qgface_draws_every_kernel_for_both_ways(image):
    params = settings("qgface", rescale_probability=1.0, rescale_side=(0.25, 0.25))
    one = rescaled(image, settings("qgface"))
    made = {}
    for down in PILLOW:
        for up in PILLOW:
            made.setdefault(one(28, down, up).tobytes(), []).append((down, up))
    # Enlarging, the area of a new pixel lies in one old one: that is the nearest.
    assert sorted(len(pairs) for pairs in made.values()) == [1] * 15 + [2] * 5
    found = [made[p.tobytes()][0] for p in run("qgface", image, params, 200)]
    downs, ups = ([pair[way] for pair in found] for way in range(2))
    for kernel in PILLOW:
        assert downs.count(kernel) / 200 == pytest.approx(0.2, abs=0.1)
    expected = {"nearest": 0.4, "bilinear": 0.2, "bicubic": 0.2, "lanczos": 0.2}
    for kernel, share in expected.items():
        assert ups.count(kernel) / 200 == pytest.approx(share, abs=0.1)
    assert len(set(found)) == 20  # the two are drawn independently


def ramp():
    """Red rises with the column, green with the row."""
    rows, columns = np.mgrid[:112, :112]
    return tf.constant(np.stack([2 * columns, 2 * rows, 0 * rows], 2), tf.uint8)


def test_qgface_sides_are_uniform_in_their_range(monkeypatch):
    monkeypatch.setattr(steps, "RESCALE_KERNELS", ("nearest",))
    params = settings("qgface", rescale_probability=1.0)
    got = run("qgface", ramp(), params, 300)
    sides = np.array([len(np.unique(picture[..., 1])) for picture in got])
    assert sides.min() in (11, 12)  # int(0.1 * 112)
    assert sides.max() in (54, 55)
    assert sides.mean() == pytest.approx(33.1, abs=2.5)
    np.testing.assert_array_equal(
        sides, [len(np.unique(picture[..., 0])) for picture in got]
    )


def test_qgface_crops_fill_the_picture():
    got = run("qgface", ramp(), settings("qgface", crop_probability=1.0), 60)
    # Red at the left and right edge tells the box's columns, green its rows.
    spans = [
        [np.ptp(picture[..., channel].astype(int)) / 2 + 1 for channel in (0, 1)]
        for picture in got
    ]
    widths, heights = np.array(spans).T
    areas = widths * heights / 112**2
    assert 0.77 < areas.min() < 0.85
    assert 0.93 < areas.max() <= 1.0
    assert len(np.unique(got[:, 0, 0, 0])) > 8
    assert got[..., :2].any(axis=(1, 2)).all()


def test_qgface_rotates_either_way_about_the_centre():
    white = tf.fill([112, 112, 3], np.uint8(255))
    right = tf.concat([0 * white[:, :56], white[:, 56:]], 1)
    params = settings("qgface", rotation_probability=1.0)
    got = run("qgface", right, params, 150)[..., 0] / 255
    rows, columns = np.mgrid[:112, :112] - 55.5
    angles = -np.degrees(
        np.arctan2((got * rows).sum((1, 2)), (got * columns).sum((1, 2)))
    )
    assert -46 < angles.min() < -40
    assert 40 < angles.max() < 46
    assert (angles < 0).mean() == pytest.approx(0.5, abs=0.12)
    assert np.abs(angles).mean() == pytest.approx(22.5, abs=3)
    corners = run("qgface", white, params, 20)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).all(axis=2).mean() > 0.8


def test_qgface_jitters_colours(image):
    params = settings("qgface", photometric_probability=1.0)
    got = run("qgface", image, params, 60).astype(float)
    whole = image.numpy().mean()
    change = got.mean(axis=(1, 2, 3)) / whole
    assert 0.78 < change.min() < 0.9
    assert 1.08 < change.max() < 1.22


def test_qgface_steps_are_drawn_independently_with_their_probabilities(image):
    chances = {
        "rescale": 0.3,
        "crop": 0.4,
        "photometric": 0.5,
        "rotation": 0.6,
        "flip": 0.7,
    }
    changed = []
    for step, chance in chances.items():
        params = settings("qgface", **{f"{step}_probability": chance})
        got = run("qgface", image, params, 200)
        changed.append((got != image.numpy()).any(axis=(1, 2, 3)))
    np.testing.assert_allclose(
        np.mean(changed, axis=1), list(chances.values()), atol=0.12
    )
    alike = np.corrcoef(changed) - np.eye(len(chances))
    assert np.abs(alike).max() < 0.25


def test_qgface_jpeg_probability_is_kept(image):
    params = settings(
        "qgface",
        rescale_probability=1.0,
        rescale_side=(0.25, 0.25),
        jpeg_probability=0.3,
    )
    one = rescaled(image, settings("qgface"))
    plain = {one(28, down, up).tobytes() for down in PILLOW for up in PILLOW}
    got = run("qgface", image, params, 300)
    packed = np.mean([picture.tobytes() not in plain for picture in got])
    assert abs(packed - 0.3) < 0.09
