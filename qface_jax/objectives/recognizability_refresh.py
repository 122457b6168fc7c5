"""The cluster of unrecognizable images during training: embedded now and then.

At the same times a few training pictures are embedded at every resolution, and each
score's rank correlation with it is logged: a score that falls as pictures get better is
said to be none in this model.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sources.chosen_records import first_of_run
from qface_jax.data_pipelines.sources.unrecognizable_images import open_unrecognizable
from qface_jax.evals.measures import quality_scores
from qface_jax.evals.measures.quality_scores import ERS, RI
from qface_jax.inference import face_maps
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.embedding_recognizability import (
    UNRECOGNIZABLE,
    distance_from,
)
from qface_jax.inference.unrecognizable_cluster import (
    cluster_of,
    picture_batches,
    unrecognizable_batches,
)
from qface_jax.objectives import recognizability_pictures
from qface_jax.objectives.objective import Hooks, Snapshot
from qface_jax.processes import agreement, hosts
from qface_jax.sharded import parallel

_FACES = 1024  # training faces whose distance from unrecognizable ones is measured


class Refresh(Hooks):
    """What recognizability does beside the steps."""

    def __init__(
        self,
        config: ConfigDict,
        options: dict[str, Any],
        *,
        source: Any,
        mesh: Mesh,
        **unused: Any,
    ):
        """Opens the unrecognizable images.

        Args:
            config: The whole config.
            options: Values of the objective's options.
            source: Training data.
            mesh: Mesh over which batches are cut.

        Raises:
            DataError: the images cannot be read, or there are fewer than two.
        """
        self._shard = parallel.shardings(mesh)
        self._interval = options["refresh_interval"]
        self._images = open_unrecognizable(config, source)
        chosen = partial(first_of_run, source, seed=config.seed)
        self._probe = chosen(options["probe_images"])
        self._draw = partial(
            recognizability_pictures.draw,
            images=self._images,
            training_faces=chosen(_FACES),
            resolutions=config.eval.resolutions,
            maps_of=partial(face_maps.maps_of, config, mesh=mesh),
        )
        self._sides = config.eval.resolutions
        self._wrong: list[str] = []

    def describe(self) -> str:
        """Returns where the unrecognizable images come from, in a line."""
        return self._images.describe()

    def due(self, step: int) -> bool:
        """Returns whether the state is refreshed before this step, counted from 1."""
        return (step - 1) % self._interval == 0

    def refresh(self, model: Snapshot) -> tuple[dict[str, Any], dict[str, float]]:
        """Returns the state with the cluster as its model sees it, and scalars."""
        embedder = model.embedder
        # The cluster is about to be found; only the index is asked for.
        batches = unrecognizable_batches(self._images, embedder.batch_size)
        cluster = cluster_of(embedder.embed(**batches), agreement.gather_rows)
        indices = cluster.scores[RI]
        known = {
            "centre": np.float32(cluster.centre),
            "mean": np.float32(indices.mean()),
            "std": np.float32(indices.std()),
        }
        scores = {**embedder.scores, ERS: distance_from(known["centre"])}
        embedder = dataclasses.replace(embedder, scores=scores)
        known = parallel.replicate(known, self._shard)
        values = {
            "ui_tightness": cluster.tightness,
            "ri_ui_mean": float(indices.mean()),
            "ri_ui_std": float(indices.std()),
        }
        state = model.state | {UNRECOGNIZABLE: known}
        return state, values | self._correlations(embedder)

    def draw(self, run: Path, model: Snapshot, evaluated: Any) -> None:
        """Writes `ui_cluster.png`, `scores_*.png` and `maps_*.png`."""
        self._draw(run, model=model, evaluated=evaluated)

    def _correlations(self, embedder: Embedder) -> dict[str, float]:
        """Rank correlations of the scores with the resolution of the probe."""
        if not len(self._probe):
            return {}
        by_side: dict[str, dict[int, np.ndarray]] = {}
        for side in self._sides:
            batches = picture_batches(self._probe, embedder, side=side)
            embedded = embedder.embed(**batches)
            for name, values in embedded.scores.items():
                by_side.setdefault(name, {})[side] = agreement.gather_rows(values)
        correlations = {
            name: quality_scores.correlation_with_sides(scores)
            for name, scores in by_side.items()
        }
        self._warn(embedder.step, correlations)
        return {
            f"rank_{name}": value
            for name, value in correlations.items()
            if value is not None
        }

    def _warn(self, step: int, correlations: dict[str, float | None]) -> None:
        """Says which scores have the wrong sign, once until that changes."""
        if step == 0:
            # The regression has learned nothing yet.
            correlations = correlations | {RI: None}
        wrong = [name for name, v in correlations.items() if v is not None and v < 0]
        if wrong != self._wrong:
            for line in quality_scores.wrong_signs(correlations):
                hosts.say(f"warning: step {step:,}: {line}")
        self._wrong = wrong
