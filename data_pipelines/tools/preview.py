"""A sheet of what the network sees: each picture beside several degradations of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.degrade import RECIPES, SIDE
from qface_jax.data_pipelines.degradation.unrecognizable import (
    RECIPE,
    given_rows,
    made_records,
    made_unrecognizable,
)
from qface_jax.data_pipelines.degradation.view_pairs import PAIR_RECIPES
from qface_jax.data_pipelines.sources.image_list import (
    OK,
    decoded_batches,
    open_images,
)
from qface_jax.data_pipelines.sources.source import (
    Source,
    open_source,
    record_name,
)
from qface_jax.data_pipelines.stream import decoding, order
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.data_pipelines.tools.inspection import contact_sheet, write_png
from qface_jax.data_pipelines.tools.preview_sheet import (
    DRAWS,
    PAPER,
    Tile,
    draw_sheet,
    settings_lines,
)
from qface_jax.errors import ConfigError, DataError

LOW, HIGH = (214, 39, 40), (44, 160, 44)  # frames, red and green
# Above the originals and above the draws, by the views of each picture.
_HEADS = {
    1: ("original", "what the network sees"),
    2: ("original, view k", "view q, each a pair with the original"),
    "both": ("original", "pairs of views, the degraded one below the other"),
    RECIPE: ("original", "the unrecognizable image of the run, then further draws"),
}


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
    originals, captions = _originals(source, indices, config.data.resize)
    drawn = _draws(config, originals, epoch)
    verdict = None if judge is None else judge(originals, drawn)
    facts = [f"{source.name}: {len(source)} images of {source.num_classes} identities"]
    facts += [
        f"recipe {name}, seed {config.seed}",
        *settings_lines(config.degrade[name]),
    ]
    facts += [] if verdict is None else verdict.facts
    if name in PAIR_RECIPES:
        heads = _HEADS["both"]
        rows = _two_lines(_rows(originals, drawn, verdict, views=1))
        captions = [line for caption in captions for line in ("", caption)]
    else:
        heads, rows = _HEADS[views], _rows(originals, drawn, verdict, views)
    write_png(draw_sheet(rows, captions, facts, heads), out)
    return out


def preview_unrecognizable(config: ConfigDict, out: Path, count: int) -> Path:
    """Writes a PNG sheet of the unrecognizable images (UIs) of a config.

    Of made ones there is a row for each: the training image, its UI, and what other
    draws would have made of it. Of given ones there are evenly spread ones with their
    names; what cannot be read is red.

    Args:
      config: complete; recognizability, data, degrade and seed are used.
      out: the PNG file to write; written beside it first, then renamed.
      count: images, at least 1.

    Returns:
      `out`.

    Raises:
      ConfigError: a count below 1.
      DataError: the images cannot be read, or the file cannot be written.
    """
    if count < 1:
        raise ConfigError(f"count: got {count}, must be at least 1")
    if config.recognizability.ui_path:
        _given_sheet(config, out, count)
        return out
    source = open_source(config.data)
    indices = made_records(config, source, count)
    originals, captions = _originals(source, indices, config.data.resize)
    places = np.arange(len(originals))[:, None] + np.arange(DRAWS) * len(source)
    drawn = _drawn(
        lambda original, place: made_unrecognizable(original, place, config),
        originals,
        places,
    )
    facts = [f"{source.name}: {len(source)} images of {source.num_classes} identities"]
    facts += [
        f"recipe {RECIPE}, seed {config.seed}",
        *settings_lines(config.degrade[RECIPE]),
    ]
    rows = _rows(originals, drawn, None, views=1)
    write_png(draw_sheet(rows, captions, facts, _HEADS[RECIPE]), out)
    return out


def _given_sheet(config: ConfigDict, out: Path, count: int) -> None:
    """Draws some of the UIs that lie in a folder."""
    images = open_images(config.recognizability.ui_path)
    rows = given_rows(config, images)
    spread = np.linspace(0, len(rows) - 1, min(count, len(rows)))
    batches = decoded_batches(
        images,
        batch_size=count,
        resize=config.data.resize,
        rows=rows[spread.round().astype(int)],
    )
    for pictures, statuses in batches:
        for picture, status in zip(pictures, statuses, strict=True):
            if status.status != OK:
                picture[:] = LOW
        contact_sheet(pictures, [status.name for status in statuses], out)


def _first_records(
    config: ConfigDict, source: Source, count: int
) -> tuple[np.ndarray, int]:
    """The records of the run's first rows, and how many rows an epoch has."""
    if config.degrade.recipe not in PAIR_RECIPES:
        return order.first_records(
            count, seed=config.seed, num_records=len(source)
        ), len(source)
    batch_size = config.data.batch_size
    plan = PairPlan(source.labels(), batch_size=batch_size, seed=config.seed)
    count = min(count, plan.images_per_epoch)
    steps = range(-(-count // batch_size))
    indices = np.concatenate([plan.records(step) for step in steps])
    return indices[:count], plan.images_per_epoch


def _originals(
    source: Source, indices: np.ndarray, resize: str
) -> tuple[np.ndarray, list[str]]:
    """Fetches and decodes the records: uint8 [n, 112, 112, 3], and what they are."""
    encoded, labels = source.fetch(indices)
    originals, captions = [], []
    for index, image, label in zip(indices, encoded, labels, strict=True):
        name = record_name(source, int(index))
        plain = image if decoding.reads(image) else decoding.transcode(image)
        if plain is None:
            raise DataError(
                f"{name}: not a picture, or a damaged one; look at the set with "
                "`qface data inspect`"
            )
        originals.append(decoding.decode(tf.constant(plain), resize).numpy())
        captions.append(f"{name}, label {label}")
    return np.stack(originals), captions


def _draws(config: ConfigDict, originals: np.ndarray, epoch: int) -> np.ndarray:
    """Degrades each original as in the first epochs, uint8 [n, k, 112, 112, 3].

    Of a recipe of two views the draws hold the others first, then the degraded ones.
    """
    name = config.degrade.recipe
    recipe, params = {**RECIPES, **PAIR_RECIPES}[name], config.degrade[name]

    def degrade(original: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        pair = tf.stack([tf.constant(config.seed, tf.int64), position])
        return recipe(original, pair, params)

    places = np.arange(len(originals))[:, None] + np.arange(DRAWS) * epoch
    drawn = _drawn(degrade, originals, places)
    if name not in PAIR_RECIPES:
        return drawn
    degraded, others = np.moveaxis(drawn, 2, 0)
    return np.concatenate([others, degraded], axis=1)


def _drawn(
    degrade: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    originals: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Applies a recipe to each original at its places [n, k], uint8 [n, k, ...]."""
    whole = tf.function(degrade, autograph=False)
    return np.array(
        [
            [whole(original, tf.constant(place, tf.int64)).numpy() for place in row]
            for original, row in zip(originals, places, strict=True)
        ]
    )


def _rows(
    originals: np.ndarray, drawn: np.ndarray, verdict: Verdict | None, views: int
) -> list[list[Tile]]:
    """Puts the original and its draws side by side, with what the verdict says."""
    if verdict is None:
        pairs = zip(originals, drawn, strict=True)
        return [[Tile(picture) for picture in (one, *some)] for one, some in pairs]
    rows = []
    for row, original in enumerate(originals):
        u = verdict.u_originals[row]
        own = f"u {u:.2f}" if views == 1 else f"u_k {u:.2f}"
        tiles = [Tile(original, own)]
        for column, picture in enumerate(drawn[row]):
            u = verdict.u_drawn[row, column]
            caption = f"u {u:.2f}" if views == 1 else f"u_q {u:.2f}  {own}"
            frame = None
            if verdict.low is not None:
                frame = LOW if verdict.low[row, column] else HIGH
            tiles.append(Tile(picture, caption, frame))
        rows.append(tiles)
    return rows


def _two_lines(rows: list[list[Tile]]) -> list[list[Tile]]:
    """Cuts each row in two, the second half of the draws below the first."""
    blank = Tile(np.full((SIDE, SIDE, 3), PAPER, np.uint8))
    half = 1 + DRAWS
    return [part for row in rows for part in (row[:half], [blank, *row[half:]])]
