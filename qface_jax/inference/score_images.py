"""Scores the quality of single images by a run: embedded once, on all devices."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from qface_jax.data_pipelines.sources import image_list
from qface_jax.data_pipelines.sources.image_list import (
    ImageList,
    Status,
    decoded_batches,
)
from qface_jax.errors import DataError
from qface_jax.evals.measures.unit import unit
from qface_jax.inference import run_scorer
from qface_jax.inference.embedding import run_embedder
from qface_jax.report.face_scores import NON_FINITE, OK, FaceScore
from qface_jax.runs.run_folder import Run


class ImageScoring:
    """A run's backbone on the devices, and what its features say of quality.

    Attributes:
        step: of the checkpoint.
        names: of the scores that the run itself gives.
    """

    def __init__(self, run: Run, *, which: str, batch_size: int = 128):
        """Loads the weights.

        Args:
            run: any run, trained or imported.
            which: of its checkpoints, "last" or "best".
            batch_size: images at a time, at least 1; rounded up to a multiple of the
                devices.

        Raises:
            ConfigError: the run has no such checkpoint.
            UserError: it is damaged.
        """
        self.step, self._embed = run_embedder(run, which)
        self._scorer = run_scorer.of_run(run, which)
        self.names = self._scorer.names
        devices = jax.device_count()
        self._batch_size = -(-batch_size // devices) * devices
        self._resize, self._workers = run.config.data.resize, run.config.data.workers

    def rows(
        self,
        images: ImageList,
        *,
        ui_centre: np.ndarray | None = None,
        resize: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[FaceScore]:
        """Yields a row for each image, in order.

        Scores are of the image itself, not of its mirror image: norm always, ers where
        the run or the caller has a centre, ri where the run has learnt it.

        Args:
            images: what is scored.
            ui_centre: unit centre of unrecognizable images, [d], in place of the run's.
            resize: of images that are not 112 px, "crop" or "stretch"; None: as the run
                does it.
            progress: told how many images each batch had.
        """
        scorer = self._scorer
        if ui_centre is not None:
            scorer = dataclasses.replace(scorer, ui_centre=ui_centre)
        for features, statuses in self._embedded(images, resize, progress):
            finite = np.isfinite(features).all(axis=1)
            scores = scorer.scores(np.where(finite[:, np.newaxis], features, 0))
            for row, status in enumerate(statuses):
                own = {name: float(values[row]) for name, values in scores.items()}
                yield _face_score(status, own, finite=bool(finite[row]))

    def centre_of(
        self,
        images: ImageList,
        *,
        resize: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Returns the mean unit embedding of images, made unit, float64 [d].

        What cannot be decoded, or has no finite feature, is left out.

        Args:
            images: unrecognizable ones.
            resize: as of `rows`.
            progress: told how many images each batch had.

        Raises:
            DataError: none of them can be embedded, or their embeddings cancel out.
        """
        total: Any = 0.0
        count = 0
        for features, statuses in self._embedded(images, resize, progress):
            good = np.isfinite(features).all(axis=1)
            good &= [status.status == image_list.OK for status in statuses]
            total = total + unit(features[good]).sum(axis=0)
            count += int(good.sum())
        length = np.linalg.norm(total)
        if not length > 0:
            raise DataError(
                f"{images.path}: {count} of {len(images)} images could be embedded, "
                "and their mean is zero; give a folder of unrecognizable face images"
            )
        return total / length

    def _embedded(
        self,
        images: ImageList,
        resize: str | None,
        progress: Callable[[int], None] | None,
    ) -> Iterator[tuple[np.ndarray, list[Status]]]:
        """Raw features float32 [k, d] and statuses of each batch."""
        batches = decoded_batches(
            images,
            batch_size=self._batch_size,
            resize=resize or self._resize,
            workers=self._workers,
        )
        pending: tuple[Any, list[Status]] | None = None
        # A batch is waited for when the next one is on its way, so that the devices
        # and the decoding work at the same time.
        for pictures, statuses in batches:
            ready, pending = pending, (self._embed(self._filled(pictures)), statuses)
            if ready is not None:
                yield self._read(*ready, progress)
        if pending is not None:
            yield self._read(*pending, progress)

    def _filled(self, pictures: np.ndarray) -> np.ndarray:
        """Adds black ones up to the size of every batch."""
        beside = self._batch_size - len(pictures)
        return np.pad(pictures, ((0, beside), (0, 0), (0, 0), (0, 0)))

    @staticmethod
    def _read(
        features: Any,
        statuses: list[Status],
        progress: Callable[[int], None] | None,
    ) -> tuple[np.ndarray, list[Status]]:
        found = np.asarray(features, np.float32)[: len(statuses)]
        if progress is not None:
            progress(len(statuses))
        return found, statuses


def _face_score(status: Status, scores: dict[str, float], *, finite: bool) -> FaceScore:
    size = {"width": status.width, "height": status.height}
    if status.status != image_list.OK:
        return FaceScore(status.name, status.status, {}, message=status.message, **size)
    if not finite:
        told = "its feature has NaN or infinite values"
        return FaceScore(status.name, NON_FINITE, {}, message=told, **size)
    return FaceScore(status.name, OK, scores, **size)
