"""An evaluation reads the features that an earlier one wrote, and embeds the rest."""

import dataclasses

import numpy as np
import pytest

from qface_jax.data_pipelines.sets.benchmark_images import BenchmarkImages
from qface_jax.data_pipelines.stream.alignment import template
from qface_jax.evals.protocols.protocol import EvalSettings, ImageRequest
from qface_jax.evals.results import Result
from qface_jax.inference.embedder import Embedder
from qface_jax.processes.share import ALONE
from qface_jax.train.evaluation import evaluate
from support.image_files import encoded, noise

COUNT, ABSENT = 6, 4
SETTINGS = EvalSettings(flip=True, resize="stretch")


class Everything:
    """A protocol that asks for every image, last first, and keeps the answer."""

    name, total = "everything", COUNT

    def __init__(self, images, side=112):
        self.images, self._side = images, side

    def evaluate(self, embed, share):
        rows = np.arange(COUNT)[::-1]
        self.embedded = embed(ImageRequest(self.images, rows, COUNT, self._side))
        return Result(self.name, {})


class Network:
    """Features of a few pixels, not zero for black ones; counts its calls."""

    def __init__(self, weight=1.0):
        self.calls, self._weight = 0, np.float32(weight)

    def __call__(self, batch):
        self.calls += 1
        return 1 + self._weight * batch[:, 40:44, 50, 0].astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(COUNT):
        if i != ABSENT:
            (tmp_path / "set" / f"{i}.png").write_bytes(encoded(noise(112, 112, i)))
    return tmp_path / "set"


def images(folder, landmarks=None):
    names = [f"{i}.png" for i in range(COUNT)]
    return BenchmarkImages("set", folder, names, landmarks=landmarks)


def run(folder, stores, *, weight=1.0, side=112, landmarks=None, **changes):
    """Returns the features, and how often the network was called for images."""
    network, protocol = Network(weight), Everything(images(folder, landmarks), side)
    settings = dataclasses.replace(SETTINGS, **changes)
    embedder = Embedder(network, 4, antialias=settings.antialias)
    evaluate(protocol, settings, embedder, share=ALONE, stores=stores)
    for_noise = 0 if stores is None else 1
    return protocol.embedded, network.calls - for_noise


def assert_same(one, other):
    for name in ("features", "plain", "mirrored", "unusable"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.scores["norm"], other.scores["norm"])


def test_the_second_evaluation_tries_the_unusable_image_alone(folder, tmp_path):
    without, calls = run(folder, None)
    assert calls == 4 and not (tmp_path / "kept").exists()
    first, calls = run(folder, tmp_path / "kept")
    assert calls == 4
    second, calls = run(folder, tmp_path / "kept")
    assert calls == 2  # one batch and its mirror image
    assert_same(first, without)
    assert_same(second, without)
    place = COUNT - 1 - ABSENT
    assert second.unusable.tolist() == [place]
    assert not second.features[place].any() and second.features.any(axis=1).sum() == 5
    assert second.scores["norm"][place] == -np.inf
    (folder / f"{ABSENT}.png").write_bytes(encoded(noise(112, 112, ABSENT)))
    mended, calls = run(folder, tmp_path / "kept")
    assert calls == 2 and not len(mended.unusable)
    last, calls = run(folder, tmp_path / "kept")
    assert calls == 0
    assert_same(last, mended)


def test_a_picture_that_was_replaced_is_embedded_again(folder, tmp_path, capsys):
    (folder / f"{ABSENT}.png").write_bytes(encoded(noise(112, 112, ABSENT)))
    before, _ = run(folder, tmp_path / "kept")
    capsys.readouterr()
    (folder / "2.png").write_bytes(encoded(noise(112, 112, 77)))
    after, calls = run(folder, tmp_path / "kept")
    assert calls == 2
    assert (
        "set: 1 picture replaced or touched since the features were written: "
        "embedded again" in capsys.readouterr().err
    )
    differs = (after.features != before.features).any(axis=1)
    assert np.flatnonzero(differs).tolist() == [COUNT - 1 - 2]
    assert_same(run(folder, None)[0], after)


def test_a_damaged_file_of_features_is_named(folder, tmp_path, capsys):
    (folder / f"{ABSENT}.png").write_bytes(encoded(noise(112, 112, ABSENT)))
    before, _ = run(folder, tmp_path / "kept")
    (path,) = (tmp_path / "kept").rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-5])
    after, calls = run(folder, tmp_path / "kept")
    assert calls == 4
    assert_same(after, before)
    assert f"warning: set: {path} is damaged or another store's" in (
        capsys.readouterr().err
    )
    assert run(folder, tmp_path / "kept")[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 2.0},
        {"side": 14},
        {"flip": False},
        {"antialias": False},
        {"resize": "crop"},
        {"landmarks": np.stack([template()] * COUNT).astype(np.float32)},
    ],
)
def test_what_features_depend_on_has_a_store_of_its_own(folder, tmp_path, change):
    (folder / f"{ABSENT}.png").write_bytes(encoded(noise(112, 112, ABSENT)))
    run(folder, tmp_path / "kept")
    _, calls = run(folder, tmp_path / "kept", **change)
    assert calls > 0
    assert len(list((tmp_path / "kept").iterdir())) == 2
    _, calls = run(folder, tmp_path / "kept", **change)
    assert calls == 0


def test_noise_tells_networks_apart_and_nothing_else_does():
    def seen(weight, batch_size=4, **options):
        return Embedder(Network(weight), batch_size, **options).of_noise()

    first = seen(1.0)
    assert first.shape == (4, 4) and first.dtype == np.float32
    np.testing.assert_array_equal(seen(1.0), first)
    np.testing.assert_array_equal(seen(1.0, flip=True), first)
    np.testing.assert_array_equal(seen(1.0, batch_size=2), first[:2])
    assert (seen(1.0001) != first).any()
