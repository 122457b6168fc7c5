"""A source of somebody else's module: one file, named `module:object`."""

import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from qface_jax import tables
from qface_jax.configs import base
from qface_jax.data_pipelines.sources.selected_records import SelectedRecords
from qface_jax.data_pipelines.sources.source import (
    JoinedSource,
    open_source,
    record_name,
)
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.data_pipelines.tools import preview
from qface_jax.errors import ConfigError
from support.kept_source import batches

# No more than the protocol asks for. Label k is a picture of grey level 10 k + start.
MODULE = """
import io

import numpy as np
from PIL import Image

from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.options import NOT_NEGATIVE, Option


class Greys:
    name = "greys"

    def __init__(self, path, start):
        self.num_classes = int(path.read_text())
        self._labels = np.repeat(np.arange(self.num_classes, dtype=np.int32), 2)
        self._start = start

    def __len__(self):
        return len(self._labels)

    def labels(self):
        return self._labels

    def fetch(self, indices):
        labels = self._labels[np.asarray(indices)]
        return [self._picture(int(label)) for label in labels], labels

    def describe(self):
        return {"source": self.name, "images": len(self)}

    def _picture(self, label):
        buffer = io.BytesIO()
        grey = (10 * label + self._start,) * 3
        Image.new("RGB", (112, 112), grey).save(buffer, "PNG")
        return buffer.getvalue()


GREYS = SourceEntry(Greys, {"start": Option(5, NOT_NEGATIVE, "grey of label 0")})
"""


@pytest.fixture
def name(tmp_path, monkeypatch):
    (tmp_path / "toy_source.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_source", raising=False)
    monkeypatch.setattr(tables, "_trusted", {"toy_source:GREYS"})
    return "toy_source:GREYS"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "set.txt"
    path.write_text("8")
    return path


@pytest.mark.parametrize("planned", [False, True])
def test_training_batches_come_from_it(name, path, planned):
    source = open_source(name, [path], {"start": 7})
    plan = PairPlan(source.labels(), batch_size=8, seed=4) if planned else None
    taken = batches(source, "clean", plan=plan, total_steps=2)
    labels = np.concatenate([batch["labels"] for batch in taken])
    images = np.concatenate([batch["images"] for batch in taken])
    np.testing.assert_array_equal(np.bincount(labels), np.full(8, 2))
    expected = np.broadcast_to(10 * labels + 7, (112, 112, 3, 16))
    np.testing.assert_array_equal(images, np.moveaxis(expected, -1, 0))


def test_what_is_made_of_sources_takes_it(name, path):
    joined = open_source(name, [path, path])
    assert isinstance(joined, JoinedSource)
    assert (len(joined), joined.num_classes) == (32, 16)
    assert record_name(joined, 17) == "greys: record 1"
    large = open_source(name, [path], drop_small_identities=2)
    assert isinstance(large, SelectedRecords)
    assert len(large) == 16


def configured(name, path):
    config = base.get_config()
    config.data.source, config.data.path = name, str(path)
    config.degrade.recipe = "clean"
    config.own = ConfigDict({"source": {"start": 9}})
    return config


def test_a_config_names_it(name, path):
    source = training_source(configured(name, path))
    (encoded,), _ = source.fetch(np.array([0]))
    assert encoded == open_source(name, [path], {"start": 9}).fetch([0])[0][0]
    with pytest.raises(ConfigError, match=r"data\.path: empty"):
        training_source(configured(name, ""))


def test_it_is_previewed(name, path, tmp_path):
    out = preview.preview(configured(name, path), tmp_path / "sheet.png", 4)
    with Image.open(out) as sheet:
        page = np.asarray(sheet.convert("RGB"))
    levels, counts = np.unique(page[..., 0], return_counts=True)
    full = levels[counts >= (1 + preview.DRAWS) * 112**2]
    assert set(full) & {9 + 10 * label for label in range(8)}
