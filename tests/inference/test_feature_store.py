"""Features on disk: what is written is read, and only what is missing is embedded."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from qface_jax.inference import feature_store
from qface_jax.inference.embedder import fused, scored
from qface_jax.inference.feature_norm import feature_norms
from qface_jax.inference.feature_store import FeatureStore, without_unusable
from qface_jax.processes.share import ALONE
from support.hosts import on_hosts

COUNT, WIDTH, ROWS = 14, 8, 4
SCORES = {"norm": feature_norms, "first": lambda raw: raw[:, 0]}
MANIFEST = {"model": "a", "flip": True}


class Killed(Exception):  # noqa: N818 (an event, not an error)
    """The evaluation ended here."""


@pytest.fixture(autouse=True)
def short_files(monkeypatch):
    monkeypatch.setattr(feature_store, "ROWS", ROWS)


def table():
    """Features of every image and mirror image, no value of them round."""
    return np.random.default_rng(3).normal(size=(2, COUNT, WIDTH)).astype(np.float32)


class Model:
    """Embeds rows of the table, and keeps what was asked.

    Attributes:
        calls: numbers of the images of each call.
        most: the other argument of each call.
    """

    def __init__(self, *, flip=True, unusable=(), killed_at=None):
        self.calls, self.most = [], []
        self._flip, self._unusable, self._killed_at = flip, unusable, killed_at

    def __call__(self, rows, most):
        if len(self.calls) == self._killed_at:
            raise Killed
        self.calls.append(rows.tolist())
        self.most.append(most)
        plain, mirrored = table()[:, rows]
        embedded = fused(plain, mirrored if self._flip else None, scored(plain, SCORES))
        bad = np.flatnonzero(np.isin(rows, self._unusable))
        return without_unusable(embedded, bad)

    @property
    def rows(self):
        """All numbers, in the order of the calls."""
        return [row for call in self.calls for row in call]


class Stamps:
    """Of pictures that are replaced by `touch`; keeps who was asked for."""

    def __init__(self):
        self.values = np.arange(2 * COUNT).reshape(COUNT, 2)
        self.asked = []

    def __call__(self, rows):
        self.asked += rows.tolist()
        return self.values[rows]

    def touch(self, *rows):
        self.values[list(rows), 1] += 1


def opened(folder, manifest=MANIFEST, count=COUNT, stamps=None):
    stamps = stamps or Stamps()
    return FeatureStore(folder, manifest, count=count, width=WIDTH, stamps=stamps)


def files(folder):
    return sorted(folder.rglob("*.npy"))


def filled(folder):
    opened(folder).fill(range(COUNT), Model(), ALONE)
    return files(folder)


def assert_as_embedded(store, rows):
    """Bit for bit what the model says of these images itself."""
    read, embedded = store.read(rows, SCORES), Model()(np.asarray(rows), 0)
    for name in ("features", "plain", "mirrored"):
        values = getattr(read, name)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, getattr(embedded, name))
    assert read.scores.keys() == embedded.scores.keys()
    for name, values in read.scores.items():
        np.testing.assert_array_equal(values, embedded.scores[name])
    assert read.unusable.size == 0


@pytest.mark.parametrize(
    "rows", [range(COUNT), [13, 0, 7, 7, 2, 9], [5], range(COUNT - 1, -1, -1)]
)
def test_read_back_in_any_order_by_the_next_evaluation(tmp_path, rows):
    assert len(filled(tmp_path)) == 4
    assert_as_embedded(opened(tmp_path), list(rows))


def test_no_images(tmp_path):
    store = opened(tmp_path)
    store.fill([], Model(killed_at=0), ALONE)
    assert list(tmp_path.iterdir()) == []
    assert store.read([], SCORES).features.shape == (0, WIDTH)


def test_without_flip_there_is_no_mirror_image(tmp_path):
    store = opened(tmp_path, MANIFEST | {"flip": False})
    store.fill([3, 1], Model(flip=False), ALONE)
    read = store.read([3, 1], SCORES)
    assert read.mirrored is None
    np.testing.assert_array_equal(read.features, table()[0, [3, 1]])
    assert "mirrored" not in np.load(files(tmp_path)[0]).dtype.names


def test_only_what_is_missing_is_embedded_and_once(tmp_path):
    store, model = opened(tmp_path), Model()
    store.fill([9, 2, 9, 5], model, ALONE)
    assert model.calls == [[2, 5, 9]] and model.most == [3]
    assert store.count == opened(tmp_path).count == 3
    assert store.missing([3, 2, 0, 3]).tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"no features of images \[0 3\]"):
        store.read([2, 3, 0], SCORES)
    opened(tmp_path).fill(range(COUNT), model, ALONE)
    assert sorted(model.rows) == list(range(COUNT))
    assert [len(call) for call in model.calls] == [3, 4, 4, 3]
    last = opened(tmp_path)
    last.fill(range(COUNT), Model(killed_at=0), ALONE)
    assert_as_embedded(last, range(COUNT))


def shortened(path):
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path):
    path.write_bytes(b"")


def garbled(path):
    path.write_bytes(b"\x93NUMPY" + path.read_bytes()[6:9] + b"?" * 500)


def of_other_rows(path):
    records = np.load(path)
    records["row"] += 1
    np.save(path, records)


def of_another_width(path):
    records = np.load(path)
    fields = [("row", "<i8"), ("unusable", "?"), ("plain", "<f4", (2,))]
    other = np.zeros(len(records), fields)
    other["row"] = records["row"]
    np.save(path, other)


def plain_numbers(path):
    np.save(path, np.arange(4))


def one_bit_turned(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_store(path):
    """The same images by another model: whole, and in its right place by its name."""
    other = opened(path.parents[1] / "other", {"model": "b", "flip": True})
    other.fill(range(COUNT), Model(), ALONE)
    path.write_bytes((other.path / path.name).read_bytes())
    shutil.rmtree(path.parents[1] / "other")


@pytest.mark.parametrize(
    "damage",
    [
        shortened,
        emptied,
        garbled,
        of_other_rows,
        of_another_width,
        plain_numbers,
        one_bit_turned,
        of_another_store,
    ],
)
def test_a_damaged_file_is_embedded_again(tmp_path, damage):
    paths = filled(tmp_path)
    whole = paths[1].read_bytes()
    damage(paths[1])
    store, model = opened(tmp_path), Model()
    assert store.damaged == [paths[1]]
    assert store.missing(range(COUNT)).tolist() == [4, 5, 6, 7]
    store.fill(range(COUNT), model, ALONE)
    assert model.calls == [[4, 5, 6, 7]]
    assert_as_embedded(store, range(COUNT))
    assert files(tmp_path) == paths and paths[1].read_bytes() == whole


def test_a_damaged_file_does_not_stay_when_others_take_its_images(tmp_path):
    paths = filled(tmp_path)
    one_bit_turned(paths[1])
    by_shares(tmp_path, 2, lambda share: Model())
    assert paths[1] not in files(tmp_path)
    assert opened(tmp_path).damaged == []
    assert_as_embedded(opened(tmp_path), range(COUNT))


def test_pictures_that_were_replaced_are_embedded_again_and_no_others(tmp_path):
    filled(tmp_path)
    stamps, model = Stamps(), Model()
    stamps.touch(2, 9)
    store = opened(tmp_path, stamps=stamps)
    assert store.missing(range(10)).tolist() == [2, 9]
    assert store.fill(range(COUNT), model, ALONE) == 2
    assert model.rows == [2, 9]
    assert sorted(stamps.asked) == list(range(COUNT))
    assert store.fill(range(COUNT), Model(killed_at=0), ALONE) == 0
    # The features written last count, whatever the names of the files are.
    again = opened(tmp_path, stamps=stamps)
    assert again.fill(range(COUNT), Model(killed_at=0), ALONE) == 0
    assert_as_embedded(again, range(COUNT))


def test_a_picture_replaced_while_it_was_read_is_noticed_the_next_time(tmp_path):
    stamps = Stamps()

    def embed(rows, most):
        if 5 in rows:
            stamps.touch(5)
        return Model()(rows, most)

    opened(tmp_path, stamps=stamps).fill(range(COUNT), embed, ALONE)
    assert opened(tmp_path, stamps=stamps).missing(range(COUNT)).tolist() == [5]


def test_hosts_look_at_their_own_pictures_and_count_together(tmp_path):
    filled(tmp_path)
    stamps = [Stamps(), Stamps()]

    def work(share):
        mine = stamps[share.index]
        mine.touch(0, 1, 13)
        store = opened(tmp_path, stamps=mine)
        return store.fill(share.pairs(COUNT), Model(), share)

    assert on_hosts(2, work) == [3, 3]
    assert [sorted(each.asked) for each in stamps] == [
        list(range(7)),
        list(range(7, COUNT)),
    ]


@pytest.mark.parametrize(
    "other", [{"model": "b"}, {"flip": False}, {"resize": "stretch"}]
)
def test_another_manifest_is_another_store(tmp_path, other):
    filled(tmp_path)
    store = opened(tmp_path, MANIFEST | other)
    assert store.path != opened(tmp_path).path
    assert store.missing(range(COUNT)).tolist() == list(range(COUNT))
    written = json.loads((opened(tmp_path).path / "manifest.json").read_text())
    assert written == MANIFEST | {"format": feature_store.FORMAT}


def test_the_order_of_a_manifest_does_not_matter(tmp_path):
    turned = dict(reversed(MANIFEST.items()))
    assert opened(tmp_path, turned).path == opened(tmp_path).path


def test_unusable_images_are_zero_and_score_lowest(tmp_path):
    store = opened(tmp_path)
    store.fill(range(COUNT), Model(unusable=(2, 9)), ALONE)
    later = opened(tmp_path)
    later.fill(range(COUNT), Model(unusable=(2, 9)), ALONE)
    for read in (store.read([9, 4, 2, 9], SCORES), later.read([9, 4, 2, 9], SCORES)):
        assert read.unusable.tolist() == [0, 2, 3]
        for values in (read.features, read.plain, read.mirrored):
            assert not values[[0, 2, 3]].any()
        np.testing.assert_array_equal(read.plain[1], table()[0, 4])
        for name in SCORES:
            assert np.isneginf(read.scores[name]).tolist() == [1, 0, 1, 1]
    kept = np.load(files(tmp_path)[0])
    assert kept["unusable"].tolist() == [0, 0, 1, 0]
    assert kept["score_norm"][2] == -math.inf


def by_shares(folder, count, model_of, total=COUNT):
    """Fills and reads a store on several hosts; returns the features in order."""

    def work(share):
        store, rows = opened(folder), share.pairs(total)
        store.fill(rows, model_of(share), share)
        return store.read(rows, SCORES).features

    return np.concatenate(on_hosts(count, work))


@pytest.mark.parametrize("total", [COUNT, 9, 1])
def test_two_hosts_are_as_one(tmp_path, total):
    models = [Model(), Model()]
    features = by_shares(tmp_path, 2, lambda share: models[share.index], total)
    np.testing.assert_array_equal(features, table().sum(axis=0)[:total])
    # Both are called equally often and told the same, whatever is left for them.
    assert models[0].most == models[1].most
    assert sorted(models[0].rows + models[1].rows) == list(range(total))
    # What they wrote serves one host, or three.
    assert opened(tmp_path).missing(range(total)).size == 0
    again = by_shares(tmp_path, 3, lambda share: Model(killed_at=0), total)
    np.testing.assert_array_equal(again, features)


def test_a_host_with_everything_there_keeps_step(tmp_path):
    opened(tmp_path).fill(range(7), Model(), ALONE)
    models = [Model(), Model()]
    by_shares(tmp_path, 2, lambda share: models[share.index])
    assert models[0].rows == [] and models[1].rows == list(range(7, COUNT))
    assert models[0].most == models[1].most == [4, 3]


def test_killed_in_the_middle_and_gone_on(tmp_path):
    filled(tmp_path / "whole")
    cut, rest = Model(killed_at=1), Model()
    with pytest.raises(Killed):
        opened(tmp_path / "cut").fill(range(COUNT), cut, ALONE)
    assert len(files(tmp_path / "cut")) == 1
    store = opened(tmp_path / "cut")
    store.fill(range(COUNT), rest, ALONE)
    assert rest.rows == list(range(4, COUNT))
    contents = [
        {
            path.name: path.read_bytes()
            for path in opened(tmp_path / name).path.iterdir()
        }
        for name in ("whole", "cut")
    ]
    assert contents[0] == contents[1]


def test_killed_while_a_file_is_written(tmp_path, monkeypatch):
    write = Path.write_bytes

    def half(path, content):
        if ".npy." not in path.name:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise Killed

    store = opened(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "write_bytes", half)
        store.fill(range(COUNT), Model(), ALONE)
    assert [path.name for path in store.path.iterdir()] == ["manifest.json"]
    # As after a power cut: what was being written lies there under its other name.
    (store.path / ".000000000-000000003-00000000.npy.1.partial").write_bytes(b"half")
    store, model = opened(tmp_path), Model()
    store.fill(range(COUNT), model, ALONE)
    assert model.rows == list(range(COUNT))
    assert_as_embedded(store, range(COUNT))


def test_an_image_that_was_mended_is_embedded_at_the_next_opening(tmp_path):
    opened(tmp_path).fill(range(COUNT), Model(unusable=(2, 9)), ALONE)
    again = opened(tmp_path)
    assert again.missing(range(COUNT)).tolist() == [2, 9]
    again.fill(range(COUNT), Model(unusable=(9,)), ALONE)
    assert again.read(range(COUNT), SCORES).unusable.tolist() == [9]
    assert opened(tmp_path).missing(range(COUNT)).tolist() == [9]
