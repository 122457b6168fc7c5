"""A sheet of what the network sees: each picture beside several degradations of it."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from qface_jax.data_pipelines import decoding, order
from qface_jax.data_pipelines.degrade import RECIPES, SIDE
from qface_jax.data_pipelines.inspection import write_png
from qface_jax.data_pipelines.sources import Source, open_source, record_name
from qface_jax.errors import ConfigError, DataError

DRAWS = 7  # degraded pictures beside the original
_GAP = 6
_LINE = 15
_INK, _PAPER = (40, 40, 40), (250, 250, 248)


def preview(config: ConfigDict, out: Path, count: int) -> Path:
    """Writes a PNG sheet: per row one picture of the source, and draws of the recipe.

    The pictures are the first of the run's own order, and the draws those of its first
    epochs, so the sheet shows what this config trains on.

    Args:
      config: complete; its data, degrade and seed are used.
      out: the PNG file to write; written beside it first, then renamed.
      count: pictures, at least 1.

    Returns:
      `out`.

    Raises:
      ConfigError: unknown recipe, or a count below 1.
      DataError: the source cannot be read, one of the records is no picture, or the
        file cannot be written.
    """
    if count < 1:
        raise ConfigError(f"count: got {count}, must be at least 1")
    name = config.degrade.recipe
    if name not in RECIPES:
        raise ConfigError(
            f"degrade.recipe: got {name!r}, must be one of {', '.join(RECIPES)}"
        )
    source = open_source(config.data)
    params = config.degrade[name]
    positions = tf.range(min(count, len(source)), dtype=tf.int64)
    indices = order.record_indices(
        positions, seed=config.seed, num_records=len(source)
    ).numpy()
    originals, labels = _originals(source, indices)

    @tf.function(autograph=False)
    def degrade(original: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        pair = tf.stack([tf.constant(config.seed, tf.int64), position])
        return RECIPES[name](original, pair, params)

    rows = []
    for place, original in enumerate(originals):
        of_epochs = tf.range(DRAWS, dtype=tf.int64) * len(source) + place
        drawn = [degrade(original, position).numpy() for position in of_epochs]
        rows.append([original.numpy(), *drawn])
    captions = [
        f"{record_name(source, int(index))}, label {label}"
        for index, label in zip(indices, labels, strict=True)
    ]
    facts = [f"{source.name}: {len(source)} images of {source.num_classes} identities"]
    facts += [f"recipe {name}, seed {config.seed}", *_facts(params)]
    write_png(_sheet(rows, captions, facts), out)
    return out


def _originals(source: Source, indices: np.ndarray) -> tuple[list, np.ndarray]:
    """Fetches and decodes the records."""
    encoded, labels = source.fetch(indices)
    originals = []
    for index, image in zip(indices, encoded, strict=True):
        plain = image if decoding.reads(image) else decoding.transcode(image)
        if plain is None:
            raise DataError(
                f"{record_name(source, int(index))}: not a picture, or a damaged one; "
                "look at the set with `qface data inspect`"
            )
        originals.append(decoding.decode(tf.constant(plain)))
    return originals, labels


def _facts(params: ConfigDict) -> list[str]:
    """The recipe's settings, two to a line."""
    settings = [f"{key} = {_plain(value)}" for key, value in sorted(params.items())]
    return ["    ".join(settings[at : at + 2]) for at in range(0, len(settings), 2)]


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " .. ".join(_plain(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _sheet(rows: list[list], captions: list[str], facts: list[str]) -> Image.Image:
    """Puts the pictures, their captions and the recipe's settings on one page."""
    cell = SIDE + _GAP
    head = _GAP + _LINE * (len(facts) + 1)
    width = _GAP + cell * (DRAWS + 1) + _GAP
    page = Image.new("RGB", (width, head + len(rows) * (cell + _LINE) + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default()
    for line, fact in enumerate(facts):
        pen.text((_GAP, _GAP + _LINE * line), fact, _INK, font)
    top = _GAP + _LINE * len(facts)
    pen.text((_GAP, top), "original", _INK, font)
    pen.text((2 * _GAP + cell, top), "what the network sees", _INK, font)
    for row, (pictures, caption) in enumerate(zip(rows, captions, strict=True)):
        top = head + row * (cell + _LINE)
        for column, picture in enumerate(pictures):
            left = _GAP + column * cell + (_GAP if column else 0)
            page.paste(Image.fromarray(picture), (left, top))
        pen.text((_GAP, top + SIDE + 1), caption, _INK, font)
    return page
