"""Two images compared: at their own size, and as if they had been smaller."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.api.model import Model
from qface_jax.data_pipelines.degradation.steps import down_up
from qface_jax.data_pipelines.sources.image_list import decoded_batches, open_images
from qface_jax.data_pipelines.sources.image_status import OK, Status
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals.calibration import CROSS, SAME, Calibration, FalseMatchRate
from qface_jax.models import IMAGE_SIDE


class Similarity(NamedTuple):
    """How similar two images are.

    Attributes:
        cosine: Of their features.
        false_match: How often two people are so similar; None: not known.
    """

    cosine: float
    false_match: FalseMatchRate | None


class Row(NamedTuple):
    """The similarity at one resolution.

    Attributes:
        side: px that images go down to and up again from; 112: as they are.
        cross: B degraded.
        same: A and B degraded.
    """

    side: int
    cross: Similarity
    same: Similarity


class Comparison(NamedTuple):
    """What `compare` finds.

    Attributes:
        images: What was read of A and B, with their size in px.
        scores: Quality scores of both at their own size, by name.
        rows: One for each side, from large to small.
    """

    images: tuple[Status, Status]
    scores: dict[str, tuple[float, float]]
    rows: list[Row]


def compare(
    model: Model,
    a: Path,
    b: Path,
    *,
    sides: Sequence[int],
    calibration: Calibration | None = None,
) -> Comparison:
    """Returns how similar two images are at each resolution.

    Args:
        model: From `load`.
        a: An image.
        b: An image.
        sides: px that they are degraded to besides, within 1 .. 112.
        calibration: What similarities of the model mean, as of `calibration_of`;
            images are then mirrored and degraded as in it.

    Raises:
        DataError: One of them is no image that can be used.
    """
    flip, antialias = True, model.embedder.antialias
    if calibration is not None:
        flip, antialias = calibration.flip, calibration.antialias
    (one, first), (other, second) = (_read(model, path) for path in (a, b))
    sides = sorted({IMAGE_SIDE, *sides}, reverse=True)
    shown = [
        np.asarray(down_up(image, side=side, antialias=antialias))
        for side in sides
        for image in (one, other)
    ]
    embedded = model.embed(np.stack(shown), flip=flip)
    if not embedded.ok.all():
        raise DataError(f"{model.path}: {embedded.messages[embedded.ok.argmin()]}")
    cosines = model.similarity(embedded, embedded)

    def similarity(row: int, column: int, kind: str, side: int) -> Similarity:
        cosine = float(cosines[row, column])
        if calibration is None:
            return Similarity(cosine, None)
        return Similarity(cosine, calibration.false_match_rate(cosine, kind, side))

    rows = [
        Row(
            side,
            similarity(0, 2 * place + 1, CROSS, side),
            similarity(2 * place, 2 * place + 1, SAME, side),
        )
        for place, side in enumerate(sides)
    ]
    scores = {
        name: (float(values[0]), float(values[1]))
        for name, values in embedded.scores.items()
    }
    return Comparison((first, second), scores, rows)


def _read(model: Model, path: Path) -> tuple[np.ndarray, Status]:
    """Returns one image as the model sees it."""
    images = open_images(path)
    if len(images) != 1:
        raise ConfigError(
            f"{path}: holds {len(images):,} images, expected one; `qface identify` "
            "compares many"
        )
    resize = model.embedder.resize
    ((pixels, (status,)),) = decoded_batches(images, batch_size=1, resize=resize)
    if status.status != OK:
        raise DataError(f"{path}: {status.message}")
    return pixels[0], status
