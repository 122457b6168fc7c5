"""What a trained model says of quality, as pictures for its run's report.

The faces with the lowest and the highest scores (Fig. 10 of the paper), where the model
looks (Figs. 5 and 11), and how far from unrecognizable images faces stand.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.data_pipelines.sources import chosen_records
from qface_jax.data_pipelines.sources.chosen_records import ChosenRecords
from qface_jax.data_pipelines.sources.unrecognizable_images import (
    UnrecognizableImages,
)
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.tools.sheet import Band, write_sheet
from qface_jax.evals.measures import error_discard
from qface_jax.evals.measures.quality_scores import RI, array_name, title
from qface_jax.evals.results import Result, file_name, result_path
from qface_jax.inference import face_maps, unrecognizable_cluster
from qface_jax.inference.embedder import Embedder
from qface_jax.objectives.objective import Snapshot
from qface_jax.processes import hosts
from qface_jax.report import face_scores
from qface_jax.report.drawings import unrecognizable_distances
from qface_jax.report.drawings.heat_map import write_maps
from qface_jax.runs.run_folder import SAMPLES

_COLUMNS = 8  # pictures in a row


def draw(
    run: Path,
    images: UnrecognizableImages,
    training_faces: ChosenRecords,
    model: Snapshot,
    evaluated: tuple[PairSet, Result] | None,
    *,
    resolutions: Sequence[int],
    maps_of: Callable[..., face_maps.Maps],
) -> None:
    """Writes `ui_cluster.png`, `scores_*.png` and `maps_*.png` to `RUN/samples`.

    All hosts call it, the first one writes.

    Args:
        run: Folder of the run.
        images: The unrecognizable images.
        training_faces: Faces whose distance from them is measured.
        model: What is looked at.
        evaluated: Set whose pictures are shown, and its result by this model; None: no
            scores and maps.
        resolutions: Sides in px that faces are shown at.
        maps_of: (parameters, statistics, images) -> maps, as `face_maps.maps_of`.
    """
    folder = run / SAMPLES
    embedder = model.embedder
    measured = unrecognizable_cluster.measure(images, training_faces, embedder)
    if hosts.first():
        unrecognizable_distances.draw(
            folder / "ui_cluster.png", measured.cluster.cosines, measured.faces
        )
    if evaluated is None:
        return
    pair_set, result = evaluated
    if hosts.first():
        write_extremes(folder, embedder, pair_set, result)
    sides = _some(resolutions)
    count = min(_COLUMNS, len(pair_set))
    rows = np.linspace(0, len(pair_set) - 1, count).round().astype(int)
    pictures = np.concatenate([_at(embedder, pair_set, rows, side) for side in sides])
    maps = maps_of(model.params, model.stats, pictures)
    if hosts.first():
        captions = [f"{side} px" for side in sides for _ in rows]
        path = folder / f"maps_{result_path(run, file_name(result)).stem}.png"
        write_maps(path, pictures, maps, captions, columns=count)


def write_extremes(
    folder: Path, embedder: Embedder, pair_set: PairSet, result: Result
) -> None:
    """Writes a sheet of the lowest- and highest-scored faces of an evaluated set.

    By RI, at the largest and at the smallest side; below each picture all its scores.

    Args:
        folder: Where `scores_<name>.png` goes.
        embedder: Says how pictures are read.
        pair_set: Its images are shown.
        result: Its evaluation, which names the file; without its arrays nothing is
            written.
    """
    sides = error_discard.sides_of(result.arrays)
    names = error_discard.scores_of(result.arrays, sides)
    if RI not in names:
        return
    bands = []
    for side in dict.fromkeys((max(sides), min(sides))):
        scores = {name: result.arrays[f"{array_name(name)}_{side}"] for name in names}
        if not np.isfinite(scores[RI]).all():
            continue
        lowest, highest = face_scores.extremes(scores[RI], _COLUMNS)
        for which, rows in (("lowest", lowest), ("highest", highest)):
            shown = face_scores.captions(scores, rows)
            heading = f"{which} {title(RI)} at {side} px"
            bands.append(Band(heading, _at(embedder, pair_set, rows, side), shown))
    if bands:
        path = folder / f"scores_{result_path(folder, file_name(result)).stem}.png"
        write_sheet(path, bands)


def _some(resolutions: Sequence[int]) -> list[int]:
    """At most four sides, spread evenly from the largest to the smallest."""
    sides = sorted(resolutions, reverse=True)
    places = np.linspace(0, len(sides) - 1, min(4, len(sides))).round().astype(int)
    return [sides[place] for place in places]


def _at(
    embedder: Embedder, pair_set: PairSet, rows: np.ndarray, side: int
) -> np.ndarray:
    """Pictures of a set as they are seen at a side, uint8 [k, 112, 112, 3]."""
    chosen = chosen_records.of_pairs(pair_set, rows)
    batches = faces.eval_batches(
        chosen,
        side=side,
        batch_size=max(len(chosen), 1),
        antialias=embedder.antialias,
        resize=embedder.resize,
    )
    with contextlib.closing(batches):
        return next(batches)
