"""The stream of an evaluation: in order, at a resolution, resized as told."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.degradation import steps
from qface_jax.data_pipelines.stream import decoding, faces
from qface_jax.data_pipelines.synthetic.faces import SyntheticPairs
from qface_jax.errors import ConfigError, DataError
from support.kept_source import batches


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
        expected = steps.down_up(picture, side=7, antialias=True)
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


def test_small_pictures_are_enlarged_as_pillow_does():
    """To whole grey levels after each direction: without, noise is off by up to 6."""
    noise = np.random.default_rng(0).integers(0, 256, (27, 22, 3), np.uint8)
    expected = np.asarray(Image.fromarray(noise).resize((112, 112), Image.BICUBIC))
    off = np.abs(decoding.fit(noise, "stretch").numpy().astype(int) - expected)
    assert off.max() <= 1 and off.mean() < 1e-3
