"""The sheet of what the network sees."""

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines import preview
from qface_jax.errors import ConfigError, DataError


@pytest.mark.parametrize("recipe", ["clean", "adaface", "resolution"])
def test_writes_a_sheet_with_the_original_first(tmp_path, recipe):
    config = base.get_config()
    config.data.synthetic.update(identities=3, images_per_identity=2)
    config.degrade.recipe = recipe
    out = preview.preview(config, tmp_path / "new" / "sheet.png", 2)
    with Image.open(out) as sheet:
        page = np.asarray(sheet)
    assert page.shape[1] > 8 * 112
    assert page.shape[0] > 2 * 112
    assert len(np.unique(page.reshape(-1, 3), axis=0)) > 1000
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]


def test_asks_for_no_more_pictures_than_there_are(tmp_path):
    config = base.get_config()
    config.data.synthetic.update(identities=1, images_per_identity=2)
    few = preview.preview(config, tmp_path / "few.png", 2)
    many = preview.preview(config, tmp_path / "many.png", 50)
    assert few.read_bytes() == many.read_bytes()


@pytest.mark.parametrize(
    ("recipe", "count", "message"),
    [("blur", 2, "degrade.recipe: got 'blur'"), ("clean", 0, "count: got 0")],
)
def test_refuses_nonsense(tmp_path, recipe, count, message):
    config = base.get_config()
    config.degrade.recipe = recipe
    with pytest.raises(ConfigError, match=message):
        preview.preview(config, tmp_path / "sheet.png", count)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_shows_a_picture_that_only_pillow_decodes(tmp_path, kind):
    folder = tmp_path / "set" / "one"
    folder.mkdir(parents=True)
    red = Image.new("RGB", (112, 112), (200, 10, 10))
    red.save(folder / "a.jpg", kind)  # the name is wrong, as it often is
    config = base.get_config()
    config.data.source, config.data.path = "folder", str(tmp_path / "set")
    config.degrade.recipe = "clean"
    out = preview.preview(config, tmp_path / "sheet.png", 1)
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3).astype(int)
    shown = np.abs(pixels - (200, 10, 10)).max(axis=1) <= 5
    assert shown.sum() == 112 * 112 * (1 + preview.DRAWS)


def test_a_folder_in_place_of_the_file_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        preview.preview(base.get_config(), tmp_path, 1)
    assert not list(tmp_path.iterdir())
