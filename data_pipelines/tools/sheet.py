"""Sheets of pictures: rows with their titles, names and captions, written as PNG."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qface_jax.errors import DataError
from qface_jax.storage.atomic_file import replace_file

Colour = tuple[int, int, int]
PAPER: Colour = (250, 250, 248)
INK: Colour = (40, 40, 40)
LOW: Colour = (214, 39, 40)  # of frames, and of pictures that are missing: red
HIGH: Colour = (44, 160, 44)
GAP, LINE = 6, 14  # px
_FRAME = 2  # px, within the gap
_NAMES = 74  # px, of the column that holds the names of the rows
_LETTER = 6  # px, about the width of one
_LEAST_COLUMNS = 3  # titles may be longer than one or two pictures are wide


class Band(NamedTuple):
    """One row of a sheet.

    Attributes:
      title: a line above the row.
      pictures: uint8 [h, w, 3] each, RGB; None leaves a place empty.
      captions: lines below each picture; () for none.
      heads: a line above each picture; () for none.
      name: what stands left of the pictures.
      frames: colour of each picture's frame, None for none; () for no frames.
    """

    title: str
    pictures: Sequence[np.ndarray | None]
    captions: Sequence[Sequence[str]] = ()
    heads: Sequence[str] = ()
    name: str = ""
    frames: Sequence[Colour | None] = ()


def write_sheet(path: Path, bands: Sequence[Band], facts: Sequence[str] = ()) -> None:
    """Writes rows of pictures as one PNG, aside and then renamed.

    Args:
      path: of the PNG; its folder is made if need be.
      bands: from the top; those without pictures are left out.
      facts: lines at the head of the sheet.

    Raises:
      DataError: there is no picture, or the file cannot be written.
    """
    bands = [band for band in bands if len(band.pictures)]
    if not bands:
        raise DataError(f"{path}: got no picture to draw, expected at least one")
    encoded = io.BytesIO()
    _drawn(bands, facts).save(encoded, "PNG")
    try:
        replace_file(path, encoded.getvalue())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def contact_sheet(
    images: Sequence[np.ndarray], labels: Sequence[Any], path: Path, columns: int = 8
) -> None:
    """Writes images in rows under their labels as one PNG, aside and then renamed.

    Args:
      images: uint8 [h, w, 3] each, RGB; any sizes.
      labels: one per image, shown as text; may be "".
      path: of the PNG.
      columns: images per row.

    Raises:
      DataError: where there is no image, or the file cannot be written.
    """
    rows = [slice(at, at + columns) for at in range(0, len(images), columns)]
    width = max((image.shape[1] for image in images), default=0)
    heads = [str(label)[: width // _LETTER] for label in labels]
    write_sheet(path, [Band("", images[row], heads=heads[row]) for row in rows])


def _drawn(bands: Sequence[Band], facts: Sequence[str]) -> Image.Image:
    """Draws the page."""
    shapes = [one.shape for b in bands for one in b.pictures if one is not None]
    cell = max(shape[1] for shape in shapes) + GAP
    height = max(shape[0] for shape in shapes)
    margin = GAP + (_NAMES if any(band.name for band in bands) else 0)
    columns = max(_LEAST_COLUMNS, *(len(band.pictures) for band in bands))
    # Of a band: the lines above its pictures, and those below.
    above = [LINE * (bool(band.title) + bool(band.heads)) for band in bands]
    below = [LINE * max(map(len, band.captions), default=0) + GAP for band in bands]
    head = GAP + LINE * len(facts)
    page = Image.new(
        "RGB",
        (margin + columns * cell, head + sum(above) + sum(below) + len(bands) * height),
        PAPER,
    )
    pen, font = ImageDraw.Draw(page), ImageFont.load_default()
    for line, fact in enumerate(facts):
        pen.text((GAP, GAP + LINE * line), fact, INK, font)
    top = head
    for band, over, under in zip(bands, above, below, strict=True):
        pen.text((margin, top), band.title, INK, font)
        top += over
        pen.text((GAP, top + height // 2), band.name, INK, font)
        for column, picture in enumerate(band.pictures):
            left = margin + column * cell
            if band.heads:
                pen.text((left, top - LINE), band.heads[column], INK, font)
            if picture is None:
                continue
            if band.frames and (colour := band.frames[column]) is not None:
                bottom, right = (length + _FRAME - 1 for length in picture.shape[:2])
                box = (left - _FRAME, top - _FRAME, left + right, top + bottom)
                pen.rectangle(box, outline=colour, width=_FRAME)
            page.paste(Image.fromarray(picture), (left, top))
            for line, text in enumerate(band.captions[column] if band.captions else ()):
                pen.text((left, top + height + _FRAME + line * LINE), text, INK, font)
        top += height + under
    return page
