"""Pictures of the pairs and probes that an evaluation gave as examples."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.stream import decoding
from qface_jax.data_pipelines.stream.crops import crop
from qface_jax.data_pipelines.tools.sheet import Band, write_sheet
from qface_jax.evals.results import Result, file_name, result_path
from qface_jax.runs.run_folder import SAMPLES

_FACES = 12  # in a row of the sheet


def write_examples(run: Path, result: Result, images: Any, resize: str) -> None:
    """Writes the images of each example and its score, `RUN/samples/pairs_<name>.png`.

    Nothing is written where the result has no examples.

    Args:
        run: Folder of the run.
        result: With examples; named as its file is.
        images: Of the protocol.
        resize: How images that are not 112 px become so, where they are not aligned.
    """
    bands = []
    for group in dict.fromkeys(example.group for example in result.examples):
        of_group = [one for one in result.examples if one.group == group]
        columns = max(_FACES // len(of_group[0].images), 1)
        for first in range(0, len(of_group), columns):
            row = of_group[first : first + columns]
            bands.append(
                Band(
                    "" if first else f"{result.set}: {group}",
                    [_side_by_side(images, one.images, resize) for one in row],
                    [[f"{one.score:.3f}"] for one in row],
                )
            )
    if bands:
        name = result_path(run, file_name(result)).stem
        write_sheet(run / SAMPLES / f"pairs_{name}.png", bands)


def _side_by_side(images: Any, rows: list[int], resize: str) -> np.ndarray:
    transforms = getattr(images, "transforms", None)
    faces = []
    for row, encoded in zip(rows, images.fetch(np.array(rows)), strict=True):
        if transforms is None:
            faces.append(decoding.decode(tf.constant(encoded), resize).numpy())
        else:
            pixels = decoding.pixels(tf.constant(encoded)).numpy()
            faces.append(crop(pixels, transforms[row]))
    return np.concatenate(faces, axis=1)
