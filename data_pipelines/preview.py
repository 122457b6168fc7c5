"""A sheet of what the network sees: each picture beside several degradations of it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from qface_jax.data_pipelines import decoding, order
from qface_jax.data_pipelines.degrade import RECIPES, SIDE
from qface_jax.data_pipelines.inspection import write_png
from qface_jax.data_pipelines.pair_plan import PairPlan
from qface_jax.data_pipelines.sources import Source, open_source, record_name
from qface_jax.data_pipelines.view_pairs import PAIR_RECIPES
from qface_jax.errors import ConfigError, DataError

DRAWS = 7  # degraded pictures beside the original
LOW, HIGH = (214, 39, 40), (44, 160, 44)  # frames, red and green
_GAP, _LINE, _FRAME = 6, 15, 2
# Above the originals and above the draws, by the views of each picture.
_HEADS = {
    1: ("original", "what the network sees"),
    2: ("original, view k", "view q, each a pair with the original"),
    "both": ("original", "pairs of views, the degraded one below the other"),
}
_INK, _PAPER = (40, 40, 40), (250, 250, 248)


class Verdict(Protocol):
    """What is needed of a judgement of a sheet's pictures.

    Attributes:
      u_originals: quality of the n originals, within [0, 1], [n].
      u_drawn: of their draws, [n, k].
      low: bool [n, k], the draws that get a red frame, the others a green one;
        None: no frames.
      facts: lines for the head of the sheet.
    """

    u_originals: np.ndarray
    u_drawn: np.ndarray
    low: np.ndarray | None
    facts: list[str]


# Originals uint8 [n, 112, 112, 3], draws [n, k, 112, 112, 3] -> their judgement; k is
# DRAWS, twice that where the recipe draws two views.
Judge = Callable[[np.ndarray, np.ndarray], Verdict]


class _Tile(NamedTuple):
    """A picture of the sheet, what stands below it, and the colour of its frame."""

    picture: np.ndarray
    caption: str = ""
    frame: tuple[int, int, int] | None = None


def preview(
    config: ConfigDict,
    out: Path,
    count: int,
    *,
    views: int = 1,
    judge: Judge | None = None,
) -> Path:
    """Writes a PNG sheet: per row one picture of the source, and draws of the recipe.

    The pictures are the first of the run's own order, and the draws those of its first
    epochs, so the sheet shows what this config trains on. Of two views the original is
    k, which training mirrors as `degrade.clean` says, and each draw a q; a recipe that
    draws both views has both on the sheet, the degraded one below the other.

    Args:
      config: complete; its data, degrade and seed are used.
      out: the PNG file to write; written beside it first, then renamed.
      count: pictures, at least 1.
      views: of each picture that the network sees, 1 or 2; a recipe that draws two is
        shown with two.
      judge: says how good the pictures are; None: nobody does.

    Returns:
      `out`.

    Raises:
      ConfigError: unknown recipe, or a count below 1.
      DataError: the source cannot be read or has too few pairs for a batch, one of the
        records is no picture, or the file cannot be written.
    """
    if count < 1:
        raise ConfigError(f"count: got {count}, must be at least 1")
    name, known = config.degrade.recipe, (*RECIPES, *PAIR_RECIPES)
    if name not in known:
        raise ConfigError(
            f"degrade.recipe: got {name!r}, must be one of {', '.join(known)}"
        )
    source = open_source(config.data)
    indices, epoch = _first_records(config, source, count)
    originals, labels = _originals(source, indices)
    drawn = _draws(config, originals, epoch)
    verdict = None if judge is None else judge(originals, drawn)
    captions = [
        f"{record_name(source, int(index))}, label {label}"
        for index, label in zip(indices, labels, strict=True)
    ]
    facts = [f"{source.name}: {len(source)} images of {source.num_classes} identities"]
    facts += [f"recipe {name}, seed {config.seed}", *_facts(config.degrade[name])]
    facts += [] if verdict is None else verdict.facts
    if name in PAIR_RECIPES:
        heads = _HEADS["both"]
        rows = _two_lines(_rows(originals, drawn, verdict, views=1))
        captions = [line for caption in captions for line in ("", caption)]
    else:
        heads, rows = _HEADS[views], _rows(originals, drawn, verdict, views)
    write_png(_sheet(rows, captions, facts, heads), out)
    return out


def _first_records(
    config: ConfigDict, source: Source, count: int
) -> tuple[np.ndarray, int]:
    """The records of the run's first rows, and how many rows an epoch has."""
    if config.degrade.recipe not in PAIR_RECIPES:
        positions = tf.range(min(count, len(source)), dtype=tf.int64)
        indices = order.record_indices(
            positions, seed=config.seed, num_records=len(source)
        )
        return indices.numpy(), len(source)
    batch_size = config.data.batch_size
    plan = PairPlan(source.labels(), batch_size=batch_size, seed=config.seed)
    count = min(count, plan.images_per_epoch)
    steps = range(-(-count // batch_size))
    indices = np.concatenate([plan.records(step) for step in steps])
    return indices[:count], plan.images_per_epoch


def _originals(source: Source, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fetches and decodes the records: uint8 [n, 112, 112, 3], labels [n]."""
    encoded, labels = source.fetch(indices)
    originals = []
    for index, image in zip(indices, encoded, strict=True):
        plain = image if decoding.reads(image) else decoding.transcode(image)
        if plain is None:
            raise DataError(
                f"{record_name(source, int(index))}: not a picture, or a damaged one; "
                "look at the set with `qface data inspect`"
            )
        originals.append(decoding.decode(tf.constant(plain)).numpy())
    return np.stack(originals), labels


def _draws(config: ConfigDict, originals: np.ndarray, epoch: int) -> np.ndarray:
    """Degrades each original as in the first epochs, uint8 [n, k, 112, 112, 3].

    Of a recipe of two views the draws hold the others first, then the degraded ones.
    """
    name = config.degrade.recipe
    recipe, params = {**RECIPES, **PAIR_RECIPES}[name], config.degrade[name]

    @tf.function(autograph=False)
    def degrade(original: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        pair = tf.stack([tf.constant(config.seed, tf.int64), position])
        return recipe(original, pair, params)

    places = np.arange(len(originals))[:, None] + np.arange(DRAWS) * epoch
    drawn = [
        [degrade(original, tf.constant(place, tf.int64)).numpy() for place in row]
        for original, row in zip(originals, places, strict=True)
    ]
    if name not in PAIR_RECIPES:
        return np.array(drawn)
    degraded, others = np.moveaxis(drawn, 2, 0)
    return np.concatenate([others, degraded], axis=1)


def _rows(
    originals: np.ndarray, drawn: np.ndarray, verdict: Verdict | None, views: int
) -> list[list[_Tile]]:
    """Puts the original and its draws side by side, with what the verdict says."""
    if verdict is None:
        pairs = zip(originals, drawn, strict=True)
        return [[_Tile(picture) for picture in (one, *some)] for one, some in pairs]
    rows = []
    for row, original in enumerate(originals):
        u = verdict.u_originals[row]
        own = f"u {u:.2f}" if views == 1 else f"u_k {u:.2f}"
        tiles = [_Tile(original, own)]
        for column, picture in enumerate(drawn[row]):
            u = verdict.u_drawn[row, column]
            caption = f"u {u:.2f}" if views == 1 else f"u_q {u:.2f}  {own}"
            frame = None
            if verdict.low is not None:
                frame = LOW if verdict.low[row, column] else HIGH
            tiles.append(_Tile(picture, caption, frame))
        rows.append(tiles)
    return rows


def _two_lines(rows: list[list[_Tile]]) -> list[list[_Tile]]:
    """Cuts each row in two, the second half of the draws below the first."""
    blank = _Tile(np.full((SIDE, SIDE, 3), _PAPER, np.uint8))
    half = 1 + DRAWS
    return [part for row in rows for part in (row[:half], [blank, *row[half:]])]


def _facts(params: ConfigDict) -> list[str]:
    """The recipe's settings, two to a line."""
    settings = [f"{key} = {_plain(value)}" for key, value in sorted(params.items())]
    return ["    ".join(settings[at : at + 2]) for at in range(0, len(settings), 2)]


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " .. ".join(_plain(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _sheet(
    rows: list[list[_Tile]],
    captions: list[str],
    facts: list[str],
    heads: tuple[str, str],
) -> Image.Image:
    """Puts the pictures, their captions and the recipe's settings on one page."""
    cell = SIDE + _GAP
    below = _LINE * (2 if rows[0][0].caption else 1)
    head = _GAP + _LINE * (len(facts) + 1)
    size = (_GAP + cell * (DRAWS + 1) + _GAP, head + len(rows) * (cell + below) + _GAP)
    page = Image.new("RGB", size, _PAPER)
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
