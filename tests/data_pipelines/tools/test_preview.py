"""The sheet of what the network sees."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qface_jax.configs import base
from qface_jax.data_pipelines.tools import preview, sheet
from qface_jax.errors import ConfigError, DataError

RECIPES = ["clean", "adaface", "resolution", "qgface", "octuplet"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_writes_a_sheet_with_the_original_first(tmp_path, recipe):
    config = base.get_config()
    config.data.synthetic.update(identities=3, images_per_identity=2)
    config.degrade.recipe, config.data.batch_size = recipe, 4
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
    [("blur", 2, "degradation 'blur': unknown"), ("clean", 0, "count: got 0")],
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


def verdict(low, facts=("one", "two")):
    count = 2
    return SimpleNamespace(
        u_originals=np.full(count, 0.5),
        u_drawn=np.full((count, preview.DRAWS), 0.25),
        low=low,
        facts=list(facts),
    )


def grey_config(folder):
    """Two grey pictures, so that all colours of the sheet are its own."""
    (folder / "one").mkdir(parents=True)
    for level in (90, 120):
        grey = Image.new("RGB", (112, 112), (level,) * 3)
        grey.save(folder / "one" / f"{level}.png")
    config = base.get_config()
    config.data.source, config.data.path = "folder", str(folder)
    config.degrade.recipe = "clean"
    return config


def page_of(path):
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB")).astype(int)


def framed(page, colour):
    """Top left corners of the frames of one colour: (row, column) of the sheet."""
    hit = (page == colour).all(axis=2)
    at = np.argwhere(hit & ~np.roll(hit, 1, 0) & ~np.roll(hit, 1, 1))
    assert hit.sum() == len(at) * (116**2 - 112**2)
    return [tuple(point) for point in at]


def test_frames_and_captions_say_what_the_judge_says(tmp_path):
    config = grey_config(tmp_path / "set")
    low = np.zeros((2, preview.DRAWS), bool)
    low[0, 1] = low[1, 0] = low[1, 6] = True
    asked = []

    def judge(originals, drawn):
        asked.append((originals, drawn))
        return verdict(low)

    out = preview.preview(config, tmp_path / "a.png", 2, views=2, judge=judge)
    ((originals, drawn),) = asked
    assert originals.shape == (2, 112, 112, 3)
    assert drawn.shape == (2, preview.DRAWS, 112, 112, 3)
    assert originals.dtype == drawn.dtype == np.uint8
    np.testing.assert_array_equal(
        drawn, np.broadcast_to(originals[:, None], drawn.shape)
    )
    page = page_of(out)
    red, green = framed(page, preview.LOW), framed(page, preview.HIGH)
    assert len(red) == 3
    assert len(green) == 11
    tops = sorted({top for top, _ in red + green})
    lefts = sorted({left for _, left in red + green})
    placed = {(tops.index(top), lefts.index(left)) for top, left in red}
    assert placed == {(0, 1), (1, 0), (1, 6)}
    # The frames of the first column begin right of the original.
    assert lefts[0] > 112
    for top, left in red + green:
        inside = page[top + 2 : top + 114, left + 2 : left + 114]
        assert np.ptp(inside) == 0


def test_captions_tell_the_quality_of_both_views(tmp_path, monkeypatch):
    said = []
    true_text = ImageDraw.ImageDraw.text

    def spied(self, place, text, *rest):
        said.append(text)
        return true_text(self, place, text, *rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spied)
    config = grey_config(tmp_path / "set")
    judge = lambda originals, drawn: verdict(None)  # noqa: E731
    preview.preview(config, tmp_path / "a.png", 2, views=2, judge=judge)
    assert said.count("u_q 0.25  u_k 0.50") == 2 * preview.DRAWS
    assert said.count("u_k 0.50") == 2
    assert "one" in said
    assert "original, view k" in said
    said.clear()
    preview.preview(config, tmp_path / "b.png", 2, judge=judge)
    assert said.count("u 0.25") == 2 * preview.DRAWS
    assert said.count("u 0.50") == 2
    assert "original" in said
    said.clear()
    preview.preview(config, tmp_path / "c.png", 2)
    assert not [text for text in said if text.startswith("u")]


def test_without_sides_there_are_no_frames(tmp_path):
    config = grey_config(tmp_path / "set")
    out = preview.preview(
        config, tmp_path / "a.png", 2, judge=lambda *pictures: verdict(None)
    )
    page = page_of(out)
    assert framed(page, preview.LOW) == framed(page, preview.HIGH) == []
    plain = page_of(preview.preview(config, tmp_path / "b.png", 2))
    # Two facts and, of each row, a caption.
    assert len(page) == len(plain) + 4 * sheet.LINE
