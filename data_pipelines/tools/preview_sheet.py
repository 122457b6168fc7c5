"""The page of a preview: rows of pictures, captions, and what made them."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from qface_jax.data_pipelines.degradation.drawn_steps import SIDE

DRAWS = 7  # pictures beside the first one of a row
PAPER = (250, 250, 248)
_INK = (40, 40, 40)
_GAP, _LINE, _FRAME = 6, 15, 2


class Tile(NamedTuple):
    """A picture of the sheet.

    Attributes:
      picture: uint8 [112, 112, 3].
      caption: what stands below it.
      frame: colour of its frame, R, G, B; None: it has none.
    """

    picture: np.ndarray
    caption: str = ""
    frame: tuple[int, int, int] | None = None


def settings_lines(params: ConfigDict) -> list[str]:
    """Returns a recipe's settings as text, two to a line."""
    settings = [f"{key} = {_plain(value)}" for key, value in sorted(params.items())]
    return ["    ".join(settings[at : at + 2]) for at in range(0, len(settings), 2)]


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " .. ".join(_plain(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def draw_sheet(
    rows: list[list[Tile]],
    captions: list[str],
    facts: list[str],
    heads: tuple[str, str],
) -> Image.Image:
    """Puts pictures, their captions and what made them on one page.

    Args:
      rows: of pictures, each of at most 1 + DRAWS.
      captions: below each row.
      facts: lines at the head of the page.
      heads: above the first pictures, and above the others.

    Returns:
      The page.
    """
    cell = SIDE + _GAP
    below = _LINE * (2 if rows[0][0].caption else 1)
    head = _GAP + _LINE * (len(facts) + 1)
    size = (_GAP + cell * (DRAWS + 1) + _GAP, head + len(rows) * (cell + below) + _GAP)
    page = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default()
    for line, fact in enumerate(facts):
        pen.text((_GAP, _GAP + _LINE * line), fact, _INK, font)
    top = _GAP + _LINE * len(facts)
    pen.text((_GAP, top), heads[0], _INK, font)
    pen.text((2 * _GAP + cell, top), heads[1], _INK, font)
    for row, (tiles, caption) in enumerate(zip(rows, captions, strict=True)):
        top = head + row * (cell + below)
        for column, tile in enumerate(tiles):
            left = _GAP + column * cell + (_GAP if column else 0)
            if tile.frame is not None:
                right, bottom = left + SIDE + _FRAME - 1, top + SIDE + _FRAME - 1
                box = (left - _FRAME, top - _FRAME, right, bottom)
                pen.rectangle(box, outline=tile.frame, width=_FRAME)
            page.paste(Image.fromarray(tile.picture), (left, top))
            if tile.caption:
                pen.text((left, top + SIDE + _FRAME + 1), tile.caption, _INK, font)
        pen.text((_GAP, top + SIDE + 1 + below - _LINE), caption, _INK, font)
    return page
