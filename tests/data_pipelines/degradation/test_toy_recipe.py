"""A recipe of somebody else's module: one file, named `module:object`."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from qface_jax import options, tables
from qface_jax.configs import base
from qface_jax.data_pipelines.device_degradation.batches import degradation
from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.data_pipelines.tools import preview
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs
from qface_jax.sharded import parallel
from support.kept_source import Kept, batches

MODULE = """
from qface_jax.data_pipelines.degradation.recipe import Recipe
from qface_jax.options import NOT_NEGATIVE, Option


def draw(image, seed, params):
    import tensorflow as tf

    return tf.ones_like(image) * tf.cast(params.level, tf.uint8)


def both(image, seed, params):
    import tensorflow as tf

    return tf.stack([draw(image, seed, params), image])


def on_device(images, keys, params):
    return images * 0 + params.level


OPTIONS = {"level": Option(200, NOT_NEGATIVE, "grey level")}
GREY = Recipe(draw, OPTIONS)
PAIR = Recipe(both, OPTIONS, views=2)
BOTH_WAYS = Recipe(draw, OPTIONS, draw_on_device=on_device)
"""


@pytest.fixture(scope="module")
def source():
    faces = {"identities": 5, "images_per_identity": 4}
    return Kept(open_source("synthetic", options=faces))


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Name of an object of the module -> its name for a config, trusted."""
    (tmp_path / "toy_recipes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_recipes", raising=False)
    monkeypatch.setattr(tables, "_trusted", set())

    def name(attribute):
        tables.trust(f"toy_recipes:{attribute}")
        return f"toy_recipes:{attribute}"

    return name


def test_it_makes_the_pictures_of_training(source, named):
    params = SimpleNamespace(level=77)
    for batch in batches(source, named("GREY"), params=params, total_steps=2):
        assert batch["images"].shape == (8, 112, 112, 3)
        assert (batch["images"] == 77).all()
        assert (batch["labels"] < 5).all()


def test_it_may_draw_both_views(source, named):
    params, clean = SimpleNamespace(level=77), SimpleNamespace(flip_probability=0)
    (pairs,) = batches(source, named("PAIR"), params=params, total_steps=1)
    (plain,) = batches(source, "clean", params=clean, total_steps=1)
    assert (pairs["images"][:, 0] == 77).all()
    np.testing.assert_array_equal(pairs["images"][:, 1], plain["images"])


def test_a_clean_view_stands_beside_its_own(source, named):
    params, clean = SimpleNamespace(level=77), SimpleNamespace(flip_probability=0)
    (pairs,) = batches(
        source, named("GREY"), params=params, beside=clean, total_steps=1
    )
    assert (pairs["images"][:, 0] == 77).all()
    assert np.ptp(pairs["images"][:, 1]) > 100


def test_it_may_have_a_form_for_the_device(named):
    def config(attribute):
        words = (f"recipe={named(attribute)}", "on=device")
        return configs.load("demo", [f"--config.degrade.{word}" for word in words])

    name = config("BOTH_WAYS").degrade.recipe
    call = degradation(
        name, SimpleNamespace(level=77), batch_size=8, mesh=parallel.make_mesh()
    )
    images = jnp.zeros((8, 112, 112, 3), jnp.uint8)
    assert (call(jax.random.key(0), jnp.int32(3), images) == 77).all()
    with pytest.raises(ConfigError, match=r"toy_recipes:GREY, which has no form for"):
        config("GREY")


@pytest.mark.parametrize(("attribute", "lines"), [("GREY", 1), ("PAIR", 2)])
def test_the_preview_shows_it(tmp_path, named, attribute, lines):
    config = base.get_config()
    config.data.synthetic.update(identities=3, images_per_identity=2)
    config.data.batch_size = 4
    config.degrade.recipe = named(attribute)
    recipe = tables.RECIPES[config.degrade.recipe]
    config.own = ConfigDict({"degradation": options.defaults(recipe.options)})
    config.own.degradation.level = 12
    out = preview.preview(config, tmp_path / "sheet.png", 2, views=lines)
    with Image.open(out) as sheet:
        page = np.asarray(sheet.convert("RGB"))
    grey = (page == 12).all(axis=2).sum() / 112**2
    assert 2 * preview.DRAWS <= grey < 2 * preview.DRAWS + 0.5
    assert page.shape[0] > 2 * lines * 112
