"""The unrecognizable images of a run: given, or made of its training images.

Nobody's face can be told on them, so a network puts them close together; where that is,
recognizability is measured from.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.sources.chosen_records import usable_first
from qface_jax.data_pipelines.sources.image_list import (
    OK,
    ImageList,
    decoded_batches,
    evenly_spread,
    open_images,
)
from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import decoding, faces
from qface_jax.errors import DataError
from qface_jax.tables import RECIPES

RECIPE = "unrecognizable"

# Positions of images, int64 [k], and how many at a time -> uint8 [.., 112, 112, 3].
_InOrder = Callable[[np.ndarray, int], Iterator[np.ndarray]]


class UnrecognizableBatch(NamedTuple):
    """One host's rows of a batch of unrecognizable images.

    Attributes:
      images: uint8 [rows, 112, 112, 3], RGB.
      valid: bool [rows]; the images of the others are black and count for nothing.
    """

    images: np.ndarray
    valid: np.ndarray


class UnrecognizableImages:
    """Unrecognizable images in a fixed order."""

    def __init__(self, count: int, description: str, in_order: _InOrder):
        """Takes how many there are, what they are, and what gives them.

        Args:
          count: at least 1.
          description: a line that says what they are.
          in_order: positions [k] and how many at a time -> the images at those
            positions, the last ones fewer where need be.
        """
        self.count = count
        self._description, self._in_order = description, in_order

    def describe(self) -> str:
        """Returns a line that says how many there are and where they come from."""
        return self._description

    def batches(
        self, batch_size: int, host: int = 0, hosts: int = 1
    ) -> Iterator[UnrecognizableBatch]:
        """Yields one host's rows of all images, each once, in global batches.

        Global batch b holds the images b * batch_size and following; each host has its
        equal part of the rows, in order. Every host yields equally many batches.

        Args:
          batch_size: rows of all hosts together, a multiple of `hosts`.
          host: whose rows, 0 .. hosts - 1.
          hosts: that share the batches.

        Raises:
          ValueError: the batch cannot be shared evenly, or there is no such host.
          DataError: an image cannot be read or decoded; names it.
        """
        if hosts < 1 or not 0 <= host < hosts:
            raise ValueError(f"host: got {host} of {hosts}, must be in 0 .. hosts - 1")
        if batch_size < 1 or batch_size % hosts:
            raise ValueError(
                f"batch_size: got {batch_size}, must be a positive multiple of the "
                f"{hosts} hosts"
            )
        return self._rows(batch_size, host, batch_size // hosts)

    def _rows(
        self, batch_size: int, host: int, share: int
    ) -> Iterator[UnrecognizableBatch]:
        starts = np.arange(0, self.count, batch_size, dtype=np.int64)[:, np.newaxis]
        places = starts + host * share + np.arange(share)
        # All but the last batches are full, so what there is comes in full shares.
        positions = places[places < self.count]
        pictures = self._in_order(positions, share)
        for row in places:
            valid = row < self.count
            images = np.zeros((share, SIDE, SIDE, 3), np.uint8)
            if valid.any():
                images[valid] = next(pictures)
            yield UnrecognizableBatch(images, valid)


def open_unrecognizable(config: ConfigDict, source: Source) -> UnrecognizableImages:
    """Opens the unrecognizable images that a config asks for.

    Those of `recognizability.ui_path`, or else made of the first training images of the
    run's own order by the recipe `unrecognizable`; at most `recognizability.ui_images`
    of them, of a larger folder evenly spread ones.

    Args:
      config: complete; `recognizability`, `degrade`, `data` and `seed` are used.
      source: the training images.

    Raises:
      DataError: there is no such folder or no image in it.
    """
    group = config.recognizability
    if group.ui_path:
        return _given(config, open_images(Path(group.ui_path)))
    return _made(config, source)


def made_records(config: ConfigDict, source: Source, count: int) -> np.ndarray:
    """Returns of which training images the first ones are made, int64 [<= count].

    Args:
      config: its `seed` is used.
      source: the training images.
      count: how many at most; there are no more than the source has, and broken ones
        that are skipped are none.
    """
    return usable_first(source, count, seed=config.seed)


def made_unrecognizable(
    picture: tf.Tensor, position: tf.Tensor, config: ConfigDict
) -> tf.Tensor:
    """Makes the unrecognizable image of a position of a training image.

    Args:
      picture: uint8 [112, 112, 3].
      position: int64 [], of that image: its draws follow from it and `config.seed`.
      config: `degrade.unrecognizable` and `seed` are used.

    Returns:
      uint8 [112, 112, 3].
    """
    # No seed of a run is negative, so none shares its draws with a training image.
    of_run = tf.constant(-1 - config.seed, tf.int64)
    return RECIPES[RECIPE].draw(
        picture, tf.stack([of_run, position]), config.degrade[RECIPE]
    )


def _made(config: ConfigDict, source: Source) -> UnrecognizableImages:
    chosen = made_records(config, source, config.recognizability.ui_images)

    def in_order(positions: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        rows = chosen[positions]

        def fetch(places: np.ndarray) -> tuple[list[bytes], np.ndarray]:
            return source.fetch(rows[places])

        def one(encoded: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            picture = decoding.decode(encoded, config.data.resize)
            return made_unrecognizable(picture, tf.constant(positions)[place], config)

        records = decoding.Records(
            fetch,
            lambda place: record_name(source, int(rows[place])),
            of_training=True,
        )
        return faces.in_order(
            records,
            len(positions),
            one,
            batch_size=batch_size,
            workers=config.data.workers,
        )

    description = (
        f"{len(chosen):,} unrecognizable images made of training images by "
        f"degrade.{RECIPE}"
    )
    return UnrecognizableImages(len(chosen), description, in_order)


def given_rows(config: ConfigDict, images: ImageList) -> np.ndarray:
    """Returns which images of a folder are taken, int64 [n], evenly spread.

    Args:
      config: `recognizability.ui_images` is used: how many at most.
      images: what is there.
    """
    return evenly_spread(len(images), config.recognizability.ui_images)


def _given(config: ConfigDict, images: ImageList) -> UnrecognizableImages:
    rows = given_rows(config, images)
    of_all = "" if len(rows) == len(images) else f"of the {len(images):,} "
    description = f"{len(rows):,} {of_all}unrecognizable images of {images.path}"
    return UnrecognizableImages(
        len(rows), description, partial(_decoded, config, images, rows)
    )


def _decoded(
    config: ConfigDict,
    images: ImageList,
    rows: np.ndarray,
    positions: np.ndarray,
    batch_size: int,
) -> Iterator[np.ndarray]:
    batches = decoded_batches(
        images,
        batch_size=batch_size,
        resize=config.data.resize,
        rows=rows[positions],
        workers=config.data.workers,
    )
    for pictures, statuses in batches:
        for status in statuses:
            if status.status != OK:
                raise DataError(
                    f"{images.path}: {status.name}: {status.message}; it is one of the "
                    "unrecognizable images (recognizability.ui_path): take it away, or "
                    "mend it"
                )
        yield pictures
