"""Scores the quality of single images by a run: embedded once, on all devices."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from qface_jax.data_pipelines.sources import image_list
from qface_jax.data_pipelines.sources.image_list import (
    ImageList,
    Status,
    decoded_batches,
)
from qface_jax.errors import DataError
from qface_jax.evals.embedded import Embedded
from qface_jax.evals.measures.quality_scores import ERS
from qface_jax.evals.measures.unit import unit
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.embedding_recognizability import distance_from
from qface_jax.inference.embeddings import NOT_FINITE
from qface_jax.report.face_scores import NON_FINITE, OK, FaceScore

Progress = Callable[[int], None]


def score_rows(
    embedder: Embedder,
    images: ImageList,
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> Iterator[FaceScore]:
    """Yields a row for each image, in order.

    Scores are of the image itself, not of its mirror image.

    Args:
        embedder: Its `scores` are those of each row, its `resize` says how images that
            are not 112 px become so.
        images: What is scored.
        workers: Threads that read, as of `decoded_batches`.
        progress: Told how many images each batch had.
    """
    for embedded, statuses in _embedded(embedder, images, workers, progress):
        finite = np.isfinite(embedded.features).all(axis=1)
        for row, status in enumerate(statuses):
            scores = {name: float(v[row]) for name, v in embedded.scores.items()}
            yield _face_score(status, scores, finite=bool(finite[row]))


def measured_from(
    embedder: Embedder,
    images: ImageList,
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> Embedder:
    """Returns the embedder with ERS measured from where images lie.

    That is their mean unit embedding, made unit. What cannot be decoded, or has no
    finite feature, is left out.

    Args:
        embedder: Its ERS, if it has one, is replaced.
        images: Unrecognizable ones.
        workers: As of `score_rows`.
        progress: As of `score_rows`.

    Raises:
        DataError: None of them can be embedded, or their embeddings cancel out.
    """
    total, count = np.zeros(1), 0
    for embedded, statuses in _embedded(embedder, images, workers, progress):
        good = np.isfinite(embedded.features).all(axis=1)
        good &= [status.status == image_list.OK for status in statuses]
        total = total + unit(embedded.features[good]).sum(axis=0)
        count += int(good.sum())
    length = np.linalg.norm(total)
    if not length > 0:
        raise DataError(
            f"{images.path}: {count} of {len(images)} images could be embedded, "
            "and their mean is zero; give a folder of unrecognizable face images"
        )
    scores = {**embedder.scores, ERS: distance_from(total / length)}
    return dataclasses.replace(embedder, scores=scores)


def _embedded(
    embedder: Embedder, images: ImageList, workers: int, progress: Progress | None
) -> Iterator[tuple[Embedded, list[Status]]]:
    batches = decoded_batches(
        images, batch_size=embedder.rows, resize=embedder.resize, workers=workers
    )
    for embedded, statuses in embedder.stream(batches):
        if progress is not None:
            progress(len(statuses))
        yield embedded, statuses


def _face_score(status: Status, scores: dict[str, float], *, finite: bool) -> FaceScore:
    size = {"width": status.width, "height": status.height}
    if status.status != image_list.OK:
        return FaceScore(status.name, status.status, {}, message=status.message, **size)
    if not finite:
        return FaceScore(status.name, NON_FINITE, {}, message=NOT_FINITE, **size)
    return FaceScore(status.name, OK, scores, **size)
