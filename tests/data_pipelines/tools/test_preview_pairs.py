"""The sheet of a recipe that draws both views of a picture."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qface_jax.configs import base
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.data_pipelines.tools import preview, sheet
from qface_jax.errors import DataError

CELL, LEFT = 118, 124  # of the sheet: a picture and its gap; where the draws begin


def config_of(**changes):
    config = base.get_config()
    config.seed = 6
    config.objective, config.degrade.recipe = "octuplet", "octuplet"
    config.data.synthetic.update({"identities": 5, "images_per_identity": 3})
    config.data.update({"batch_size": 4} | changes)
    return config


def stream_of(config, source, steps):
    plan = PairPlan(source.labels(), batch_size=4, seed=config.seed)
    batches = faces.stream(
        source,
        batch_size=4,
        recipe="octuplet",
        params=config.degrade.octuplet,
        seed=config.seed,
        start_step=0,
        total_steps=steps,
        plan=plan,
    )
    images = np.concatenate([batch["images"] for batch in batches])
    return images, np.concatenate([plan.records(step) for step in range(steps)])


def spied(monkeypatch):
    """Texts that a sheet gets, as they are drawn."""
    said = []
    true_text = ImageDraw.ImageDraw.text

    def text(self, place, words, *rest):
        said.append(words)
        return true_text(self, place, words, *rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return said


def read(path):
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB"))


def find(page, picture):
    """Places (top, left) where the page has the picture."""
    height, width = (size - 111 for size in page.shape[:2])
    corner = (page[:height, :width] == picture[0, 0]).all(axis=2)
    return [
        (int(top), int(left))
        for top, left in np.argwhere(corner)
        if np.array_equal(page[top : top + 112, left : left + 112], picture)
    ]


def test_it_shows_what_training_sees_first(tmp_path, monkeypatch):
    """Pictures in the order of the pair plan, both views one below the other."""
    config, said = config_of(), spied(monkeypatch)
    out = preview.preview(config, tmp_path / "a.png", 6, views=2)
    page = read(out)
    source = training_source(config)
    views, records = stream_of(config, source, 2)
    tops = []
    for low, high in views[:6]:
        ((top, left),) = find(page, high)
        assert left == LEFT
        (below,) = find(page, low)
        assert below == (top + CELL, LEFT)
        tops.append(top)
    assert tops == sorted(tops)
    labels = source.labels()
    captions = [text for text in said if text.startswith("synthetic: record")]
    assert captions == [f"synthetic: record {record}, label {labels[record]}"
                        for record in records[:6]]  # fmt: skip
    assert "pairs of views, the degraded one below the other" in said
    # Beside each degraded view and its other one: nothing below the original.
    blank = page[tops[0] + CELL : tops[0] + CELL + 112, 6:118]
    assert (blank == sheet.PAPER).all()
    assert page.shape[1] < 9 * CELL


def test_every_draw_is_a_pair(tmp_path):
    config = config_of()
    config.degrade.octuplet.update({"brightness": 0.0, "flip_probability": 0.0})
    config.degrade.octuplet.update({"saturation": 0.0, "sides": (112,)})
    page = read(preview.preview(config, tmp_path / "a.png", 1, views=2))
    tops = {top for top, _ in find(page, page[-118:-6, LEFT : LEFT + 112])}
    picture = page[min(tops) : min(tops) + 112, 6:118]
    # Nothing is changed, so the sheet has the original fifteen times.
    places = find(page, picture)
    assert len(places) == 1 + 2 * preview.DRAWS
    assert len({top for top, _ in places}) == 2


def test_an_epoch_is_all_there_is(tmp_path, monkeypatch):
    said = spied(monkeypatch)
    preview.preview(config_of(), tmp_path / "a.png", 50, views=2)
    # Two batches of four: of the five identities' pairs the fifth waits.
    captions = [text for text in said if "record" in text]
    assert len(captions) == len(set(captions)) == 8


def test_the_judge_sees_both_views(tmp_path, monkeypatch):
    config, said, asked = config_of(), spied(monkeypatch), []
    count, draws = 2, 2 * preview.DRAWS
    low = np.zeros((count, draws), bool)
    low[0, 1] = low[1, preview.DRAWS + 3] = True

    def judge(originals, drawn):
        asked.append((originals, drawn))
        u_drawn = np.full((count, draws), 0.25)
        u_drawn[:, preview.DRAWS :] = 0.125
        return SimpleNamespace(
            u_originals=np.full(count, 0.5), u_drawn=u_drawn, low=low, facts=["one"]
        )

    out = preview.preview(config, tmp_path / "a.png", count, views=2, judge=judge)
    ((originals, drawn),) = asked
    assert originals.shape == (count, 112, 112, 3)
    assert drawn.shape == (count, draws, 112, 112, 3)
    views, _ = stream_of(config, training_source(config), 1)
    np.testing.assert_array_equal(drawn[:, 0], views[:count, 1])
    np.testing.assert_array_equal(drawn[:, preview.DRAWS], views[:count, 0])
    assert said.count("u 0.50") == count
    assert said.count("u 0.25") == said.count("u 0.12") == count * preview.DRAWS
    page, frame = read(out), 116**2 - 112**2
    red = (page == preview.LOW).all(axis=2)
    assert red.sum() == 2 * frame
    assert (page == preview.HIGH).all(axis=2).sum() == (count * draws - 2) * frame
    left, right = np.argwhere(red.any(axis=0))[[0, -1], 0]
    assert (left - LEFT) // CELL in (0, 1)
    assert (right - LEFT) // CELL == 3


def test_too_few_pairs_for_a_batch_are_said(tmp_path):
    with pytest.raises(DataError, match=r"expected at least 8 for batches of 16"):
        preview.preview(config_of(batch_size=16), tmp_path / "a.png", 2, views=2)
    assert not list(tmp_path.iterdir())
