"""Sheets of pictures: what stands where, and that they are complete or not there."""

import os

import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.tools import sheet
from qface_jax.errors import DataError


def test_contact_sheet(tmp_path):
    red = np.full((112, 112, 3), (255, 0, 0), np.uint8)
    green = np.full((50, 40, 3), (0, 255, 0), np.uint8)
    path = tmp_path / "new" / "sheet.png"
    sheet.contact_sheet([red, green, red], ["a", "", np.int32(7)], path, columns=2)
    with Image.open(path) as page:
        assert page.format == "PNG" and page.size == (6 + 3 * 118, 6 + 2 * 132)
        assert page.getpixel((50, 60)) == (255, 0, 0)
        assert page.getpixel((130, 30)) == (0, 255, 0)
        assert page.getpixel((210, 100)) == sheet.PAPER
        assert page.getpixel((50, 200)) == (255, 0, 0)
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]


def test_contact_sheet_that_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "sheet.png"
    path.write_bytes(b"the old one")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"sheet\.png: cannot be written: No space"):
        sheet.contact_sheet([np.zeros((9, 9, 3), np.uint8)], ["x"], path)
    assert path.read_bytes() == b"the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
    with pytest.raises(DataError, match="no picture to draw"):
        sheet.contact_sheet([], [], path)


def test_the_sheet_holds_the_bands_in_order(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 112, 112, 3)).astype(np.uint8)
    bands = [
        sheet.Band("lowest", pictures[:3], [["ERS 0.1", "RI 1"]] * 3),
        sheet.Band("none", pictures[:0], []),
        sheet.Band("highest", pictures[3:], [["ERS 0.9", "RI 9"]] * 2),
    ]
    path = tmp_path / "sheet.png"
    sheet.write_sheet(path, bands)
    with Image.open(path) as png:
        page = np.asarray(png.convert("RGB"))
    tops = []
    for number, picture in enumerate(pictures):
        left = 6 + 118 * (number if number < 3 else number - 3)
        column = page[:, left : left + 112]
        tops.append(
            [
                top
                for top in range(len(page) - 111)
                if np.array_equal(column[top : top + 112], picture)
            ]
        )
    assert [len(found) for found in tops] == [1] * 5
    assert tops[0] == tops[2] < tops[3] == tops[4]
    below = page[tops[0][0] + 112 : tops[3][0], 6:118]
    assert (below.max(axis=2) < 150).sum() > 20  # the values
    assert list(tmp_path.iterdir()) == [path]


def test_a_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="got no picture"):
        sheet.write_sheet(tmp_path / "a.png", [sheet.Band("none", np.zeros((0,)), [])])
