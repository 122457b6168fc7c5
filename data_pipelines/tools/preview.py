"""A sheet of what the network sees: each picture beside several degradations of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.recipe import params_of
from qface_jax.data_pipelines.sources.image_list import (
    OK,
    decoded_batches,
    evenly_spread,
    open_images,
)
from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.data_pipelines.sources.unrecognizable_images import (
    RECIPE,
    given_rows,
    made_records,
    made_unrecognizable,
)
from qface_jax.data_pipelines.stream import decoding, order, picture
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.data_pipelines.tools.sheet import (
    HIGH,
    LOW,
    Band,
    contact_sheet,
    write_sheet,
)
from qface_jax.errors import ConfigError, DataError
from qface_jax.tables import RECIPES

DRAWS = 7  # pictures beside the original
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
    epochs, so the sheet shows what this config trains on; where it degrades on the
    device, other draws of the same recipe. Of two views the original is k, which
    training mirrors as `degrade.clean` says, and each draw a q; a recipe that draws
    both views has both on the sheet, the degraded one below the other.

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
    name = config.degrade.recipe
    pairs = RECIPES[name].views == 2
    source = training_source(config)
    indices, epoch = _first_records(config, source, count)
    originals, captions = _originals(source, indices, config.data.resize)
    drawn = _draws(config, originals, epoch)
    verdict = None if judge is None else judge(originals, drawn)
    facts = [f"{source.name}: {len(source)} images of {source.num_classes} identities"]
    facts += [
        f"recipe {name}, seed {config.seed}",
        *_settings_lines(vars(params_of(config))),
    ]
    if config.degrade.on == "device":
        facts.append("drawn as on a host; this config's training draws other numbers")
    facts += [] if verdict is None else verdict.facts
    heads, captioned_views = ("both", 1) if pairs else (views, views)
    bands = _bands(originals, drawn, captions, _HEADS[heads], verdict, captioned_views)
    write_sheet(out, _two_lines(bands) if pairs else bands, facts)
    return out


def preview_unrecognizable(config: ConfigDict, out: Path, count: int) -> Path:
    """Writes a PNG sheet of the unrecognizable images of a config.

    Of made ones there is a row for each: the training image, what was made of it, and
    what other draws would have made of it. Of given ones there are evenly spread ones
    with their names; what cannot be read is red.

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
    source = training_source(config)
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
        *_settings_lines(config.degrade[RECIPE]),
    ]
    write_sheet(out, _bands(originals, drawn, captions, _HEADS[RECIPE]), facts)
    return out


def _given_sheet(config: ConfigDict, out: Path, count: int) -> None:
    """Draws some of the unrecognizable images that lie in a folder."""
    images = open_images(config.recognizability.ui_path)
    rows = given_rows(config, images)
    batches = decoded_batches(
        images,
        batch_size=count,
        resize=config.data.resize,
        rows=rows[evenly_spread(len(rows), count)],
    )
    for pictures, statuses in batches:
        for image, status in zip(pictures, statuses, strict=True):
            if status.status != OK:
                image[:] = LOW
        contact_sheet(pictures, [status.name for status in statuses], out)


def _first_records(
    config: ConfigDict, source: Source, count: int
) -> tuple[np.ndarray, int]:
    """The records of the run's first rows, and how many rows an epoch has."""
    if RECIPES[config.degrade.recipe].views == 1:
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
        try:
            found = picture.read(image)
            plain = found.encoded
            if not decoding.reads(plain):
                plain = decoding.repaired(found)
        except PictureError as error:
            raise DataError(
                f"{name}: {error}; look at the set with `qface data inspect`"
            ) from error
        originals.append(decoding.decode(tf.constant(plain), resize).numpy())
        captions.append(f"{name}, label {label}")
    return np.stack(originals), captions


def _draws(config: ConfigDict, originals: np.ndarray, epoch: int) -> np.ndarray:
    """Degrades each original as in the first epochs, uint8 [n, k, 112, 112, 3].

    Of a recipe of two views the draws hold the others first, then the degraded ones.
    """
    recipe, params = RECIPES[config.degrade.recipe], params_of(config)

    def degrade(original: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        pair = tf.stack([tf.constant(config.seed, tf.int64), position])
        return recipe.draw(original, pair, params)

    places = np.arange(len(originals))[:, None] + np.arange(DRAWS) * epoch
    drawn = _drawn(degrade, originals, places)
    if recipe.views == 1:
        return drawn
    degraded, others = np.moveaxis(drawn, 2, 0)
    return np.concatenate([others, degraded], axis=1)


def _drawn(
    degrade: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    originals: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Applies a recipe to each original at its places [n, k], uint8 [n, k, ...]."""
    compiled = tf.function(degrade, autograph=False)
    return np.array(
        [
            [compiled(original, tf.constant(place, tf.int64)).numpy() for place in row]
            for original, row in zip(originals, places, strict=True)
        ]
    )


def _bands(
    originals: np.ndarray,
    drawn: np.ndarray,
    titles: list[str],
    heads: tuple[str, str],
    verdict: Verdict | None = None,
    views: int = 1,
) -> list[Band]:
    """Puts each original and its draws in a row, with what the verdict says.

    The heads stand above the original and the first draw of the first row.
    """
    q, k = ("u", "u") if views == 1 else ("u_q", "u_k")
    bands = []
    for row, (original, degraded) in enumerate(zip(originals, drawn, strict=True)):
        blank = [""] * (len(degraded) - 1)
        band = Band(
            titles[row],
            [original, *degraded],
            heads=[*heads, *blank] if row == 0 else (),
        )
        if verdict is not None:
            of_original = f"{k} {verdict.u_originals[row]:.2f}"
            beside = "" if views == 1 else f"  {of_original}"
            of_draws = [f"{q} {u:.2f}{beside}" for u in verdict.u_drawn[row]]
            band = band._replace(captions=[[of_original], *([u] for u in of_draws)])
            if verdict.low is not None:
                frames = [LOW if low else HIGH for low in verdict.low[row]]
                band = band._replace(frames=[None, *frames])
        bands.append(band)
    return bands


def _two_lines(bands: list[Band]) -> list[Band]:
    """Cuts each row in two, the second half of the draws below the first."""
    half = 1 + DRAWS
    lines = []
    for band in bands:
        lines.append(
            band._replace(
                pictures=band.pictures[:half],
                captions=band.captions[:half],
                heads=band.heads[:half],
                frames=band.frames[:half],
            )
        )
        lines.append(
            Band(
                "",
                [None, *band.pictures[half:]],
                captions=[[], *band.captions[half:]] if band.captions else (),
                frames=[None, *band.frames[half:]] if band.frames else (),
            )
        )
    return lines


def _settings_lines(params: Mapping[str, Any]) -> list[str]:
    """Returns a recipe's settings as text, two to a line."""
    settings = [f"{key} = {_plain(value)}" for key, value in sorted(params.items())]
    return ["    ".join(settings[at : at + 2]) for at in range(0, len(settings), 2)]


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " .. ".join(map(_plain, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
