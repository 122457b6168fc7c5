"""Feature norm, own probability and image quality of some training images, as logged.

They are the first images of the run as they are degraded for it, so a resumed run has
the same. AdaFace takes 1,534 of them for its Fig. 4.
"""

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import npz_file
from qface_jax.inference.embedder import Embedder
from qface_jax.losses import brisque
from qface_jax.losses.margins.margin import unchanged
from qface_jax.losses.vectors import unit
from qface_jax.processes import agreement, hosts
from qface_jax.report.drawings import quality_pictures
from qface_jax.report.drawings.quality_pictures import NORM, PROBABILITY, Measured
from qface_jax.sharded import classifier, parallel
from qface_jax.sharded.classifier import CENTRES
from qface_jax.storage.atomic_file import replace_file
from qface_jax.train.setup import Setup
from qface_jax.train.state import TrainState

FOLDER = "quality"  # in a run: a file for each step that was measured
# What is logged of each.
_NAMES = {
    NORM: "quality_correlation_norm",
    PROBABILITY: "quality_correlation_probability",
}


class QualitySample:
    """A fixed sample of the training images, measured now and then."""

    def __init__(self, config: ConfigDict, setup: Setup, num_classes: int, run: Path):
        """Takes what is needed to measure; the images are read when first asked for.

        Args:
            config: The whole config; `log.quality_images` is their number.
            setup: Parts of the run.
            num_classes: Identities of the training set.
            run: Folder of the run.

        Raises:
            ConfigError: the objective has no class centres.
        """
        count = config.log.quality_images
        if CENTRES not in setup.abstract.params["head"]:
            raise ConfigError(
                f"log.quality_images: got {count} with objective {config.objective}, "
                "which has no class centres, and so no probability of the own class; "
                "set log.quality_images=0"
            )
        self._count, self._setup, self._run = count, setup, run
        self._batch_size, self._draws = config.data.batch_size, config.log.pictures
        self._images: np.ndarray | None = None
        self._labels: np.ndarray | None = None
        self._quality: np.ndarray | None = None
        rows = setup.shard.rows
        spec = classifier.ClassifierSpec(
            negative=unchanged,
            scale=config.loss.scale,
            num_classes=num_classes,
            chunk=config.classifier.chunk,
            mesh=setup.mesh,
        )

        def probability(centres, features, labels):
            similar = classifier.similarity(spec, unit(features), centres, labels, ())
            return classifier.own_probability(similar, spec.scale)

        self._probability = jax.jit(probability, out_shardings=rows)
        self._brisque = jax.jit(brisque.quality, out_shardings=rows)

    def measure(self, state: TrainState) -> dict[str, float]:
        """Measures the images by a state; writes the numbers and draws the pictures.

        All hosts call it together. The first writes `RUN/quality/step_*.npz`, with the
        arrays of `Measured` and the labels, and with `log.pictures` draws the pictures
        from all such files up to this step that are of the same images.

        Returns:
            Correlations with the image quality for the log; one that is not defined,
            where something does not vary or is not finite, is left out.
        """
        embedder = self._setup.embedder(state)
        if self._images is None:
            self._read(embedder)
        features = self._in_batches(
            embedder, lambda images: embedder(images).wait().plain, self._images
        )
        centres = state.params["head"][CENTRES]
        probabilities = self._in_batches(
            embedder, lambda f, y: self._own(embedder, centres, f, y), features,
            self._labels,
        )  # fmt: skip
        norms = np.linalg.norm(features.astype(np.float64), axis=1)
        columns = (norms, probabilities, self._quality, self._labels)
        norms, probabilities, quality, labels = map(agreement.gather_rows, columns)
        kept = np.flatnonzero(labels >= 0)[: self._count]
        measured = Measured(
            int(state.step), norms[kept], probabilities[kept], quality[kept]
        )
        if hosts.first():
            self._write(measured, labels[kept])
        values = quality_pictures.correlations(measured)
        return {_NAMES[k]: v for k, v in values.items() if math.isfinite(v)}

    def _read(self, embedder: Embedder) -> None:
        """Reads this host's share of the images, and judges their quality."""
        steps = -(-self._count // self._batch_size)
        with contextlib.closing(self._setup.seen_batches(0, steps)) as batches:
            parts = [(rows["images"], rows["labels"]) for rows in batches]
        images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        # Of two views the first is the degraded one.
        self._images = images if images.ndim == 4 else images[:, 0]
        self._labels = labels
        self._quality = self._in_batches(
            embedder, lambda x: self._on_devices(embedder, self._brisque, x),
            self._images,
        )  # fmt: skip

    def _own(self, embedder, centres, features, labels):
        def probability(features, labels):
            return self._probability(centres, features, labels)

        return self._on_devices(embedder, probability, features, labels)

    def _on_devices(self, embedder, function: Any, *arrays: np.ndarray) -> np.ndarray:
        """Applies a function of rows to this host's rows, filled up with zeros."""
        count = len(arrays[0])
        full = tuple(
            np.pad(x, [(0, embedder.rows - count)] + [(0, 0)] * (x.ndim - 1))
            for x in arrays
        )
        batch = parallel.to_device(full, self._setup.shard.rows)
        return np.asarray(parallel.LocalRows(function(*batch)))[:count]

    @staticmethod
    def _in_batches(embedder, function: Any, *arrays: np.ndarray) -> np.ndarray:
        """Applies a function to `embedder.rows` rows at a time; all hosts as often."""
        starts = range(0, len(arrays[0]), embedder.rows)
        return np.concatenate(
            [function(*(x[i : i + embedder.rows] for x in arrays)) for i in starts]
        )

    def _write(self, measured: Measured, labels: np.ndarray) -> None:
        folder = self._run / FOLDER
        folder.mkdir(exist_ok=True)
        content = io.BytesIO()
        np.savez(content, **measured._asdict(), labels=labels)
        path = folder / f"step_{measured.step:09}.npz"
        replace_file(path, content.getvalue())
        if not self._draws:
            return
        points = self._points(measured, labels)
        quality_pictures.write_correlations(self._run, points)
        usable = self._images[self._labels >= 0][: self._count]
        quality_pictures.write_trajectories(self._run, points, usable)

    def _points(self, measured: Measured, labels: np.ndarray) -> list[Measured]:
        """What was measured of the same images, up to this step."""
        points = []
        for path in sorted((self._run / FOLDER).glob("step_*.npz")):
            try:
                saved = npz_file.read(path)
                same = np.array_equal(saved.pop("labels"), labels)
                if same and saved["step"] <= measured.step:
                    points.append(Measured(**saved | {"step": int(saved["step"])}))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}: cannot be read ({error}); remove it, and the pictures "
                    "are drawn without it"
                ) from error
        return points
