"""Colours over pictures, and the sheet of them."""

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from qface_jax.data_pipelines.tools.sheet import GAP, LINE
from qface_jax.errors import DataError
from qface_jax.report.drawings.heat_map import overlay, write_maps

TURBO = 255 * np.asarray(matplotlib.colormaps["turbo"]([0.0, 1.0]))[:, :3]
GREY = np.full((112, 112, 3), 100, np.uint8)


def test_the_colours_of_the_ends():
    values = np.zeros((4, 4))
    values[1, 2] = 3.0
    picture = overlay(GREY, values - 5.0)
    # Far from the peak the lowest colour, in its middle the highest.
    assert_allclose(picture[100, 10], 50 + TURBO[0] / 2, atol=1)
    assert_allclose(picture[42, 70], 50 + TURBO[1] / 2, atol=12)
    assert picture.dtype == np.uint8
    # The scale is the map's own.
    assert_array_equal(overlay(GREY, 7 * values), picture)


def test_a_map_without_a_pattern_is_low_everywhere():
    for values in (np.zeros((7, 7)), np.full((1, 1), 0.3), np.full((3, 3), 1e6)):
        picture = overlay(GREY, values)
        assert_allclose(picture.astype(float), np.broadcast_to(
            50 + TURBO[0] / 2, (112, 112, 3)
        ), atol=1)  # fmt: skip


@pytest.mark.parametrize(
    ("image", "values", "says"),
    [
        (GREY[:100], np.zeros((4, 4)), r"uint8 \[100, 112, 3\], expected uint8"),
        (GREY / 255, np.zeros((4, 4)), "float64"),
        (GREY, np.full((4, 4), np.nan), "NaN or infinite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(image, values, says):
    with pytest.raises(ValueError, match=says):
        overlay(image, values)


def test_the_sheet(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 112, 112, 3)).astype(np.uint8)
    maps = {"attention": rng.random((5, 4, 4)), "activation": rng.random((5, 7, 7))}
    path = tmp_path / "new" / "maps.png"
    write_maps(path, images, maps, [f"{i} px" for i in range(5)], columns=3)
    with Image.open(path) as sheet:
        page = np.asarray(sheet)
    cell, margin = 112 + GAP, GAP + 74  # beside the names of the rows
    block = LINE + 3 * cell
    assert page.shape == (GAP + 2 * block, margin + 3 * cell, 3)

    def tile(index, row):
        y = GAP + index // 3 * block + LINE + row * cell
        x = margin + index % 3 * cell
        return page[y : y + 112, x : x + 112]

    for index in (0, 2, 4):
        assert_array_equal(tile(index, 0), images[index])
        for row, values in enumerate(maps.values(), start=1):
            assert_array_equal(tile(index, row), overlay(images[index], values[index]))
    assert [entry.name for entry in path.parent.iterdir()] == ["maps.png"]


def test_a_sheet_that_cannot_be_written(tmp_path):
    images, captions = [GREY], [""]
    maps = {"activation": np.zeros((1, 4, 4))}
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_maps(tmp_path / "taken" / "maps.png", images, maps, captions)
    with pytest.raises(DataError, match="no picture"):
        write_maps(tmp_path / "maps.png", [], {}, [])
    with pytest.raises(ValueError, match="activation: got 1, expected 2"):
        write_maps(tmp_path / "maps.png", [GREY, GREY], maps, ["", ""])
    maps["activation"][0, 0, 0] = np.inf
    with pytest.raises(DataError, match="1 of activation of 1 maps are NaN"):
        write_maps(tmp_path / "maps.png", images, maps, captions)
    assert not (tmp_path / "maps.png").exists()
