"""The cluster of unrecognizable images during training: embedded now and then.

At the same times a few training pictures are embedded at every resolution, and each
score's rank correlation with it is logged: a score that falls as pictures get better is
said to be none in this model.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sources import chosen_records, unrecognizable_images
from qface_jax.evals.measures import quality_scores
from qface_jax.evals.measures.quality_scores import RI
from qface_jax.inference import run_scorer
from qface_jax.inference.embed import Embedded, embed_images
from qface_jax.inference.unrecognizable_cluster import (
    Batches,
    Cluster,
    cluster_of,
    picture_batches,
    ui_batches,
)
from qface_jax.models.heads import REGRESSION
from qface_jax.objectives import recognizability_pictures
from qface_jax.objectives.objective import Hooks, Snapshot
from qface_jax.objectives.recognizability import UNRECOGNIZABLE
from qface_jax.processes import agreement, hosts
from qface_jax.sharded import parallel


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
        self._config, self._source, self._mesh = config, source, mesh
        self._interval = options["refresh_interval"]
        self._images = unrecognizable_images.open_unrecognizable(config, source)
        self._probe = chosen_records.first_of_run(
            source, options["probe_images"], seed=config.seed
        )
        self._wrong: list[str] = []

    def describe(self) -> str:
        """Returns where the unrecognizable images come from, in a line."""
        return self._images.describe()

    def due(self, step: int) -> bool:
        """Returns whether the state is refreshed before this step, counted from 1."""
        return (step - 1) % self._interval == 0

    def refresh(self, model: Snapshot) -> tuple[dict[str, Any], dict[str, float]]:
        """Returns the state with the cluster as its model sees it, and scalars."""
        cluster = self._cluster(model)
        indices = cluster.scores[RI]
        known = {
            "centre": np.float32(cluster.centre),
            "mean": np.float32(indices.mean()),
            "std": np.float32(indices.std()),
        }
        known = parallel.replicate(known, parallel.shardings(self._mesh))
        model = model._replace(state=model.state | {UNRECOGNIZABLE: known})
        values = {
            "ui_tightness": cluster.tightness,
            "ri_ui_mean": float(indices.mean()),
            "ri_ui_std": float(indices.std()),
        }
        return model.state, values | self._correlations(model)

    def draw(self, run: Path, model: Snapshot, evaluated: Any) -> None:
        """Writes `ui_cluster.png`, `scores_*.png` and `maps_*.png`."""
        recognizability_pictures.draw(
            run, self._config, self._source, model, evaluated, mesh=self._mesh
        )

    def _cluster(self, model: Snapshot) -> Cluster:
        size = self._config.eval.batch_size
        batches, rows, calls = ui_batches(self._images, size)
        # The cluster is about to be found; only the index is asked for.
        embedded = self._embed(model, batches, count=rows, calls=calls)
        return cluster_of(embedded, agreement.gather_rows)

    def _correlations(self, model: Snapshot) -> dict[str, float]:
        """Rank correlations of the scores with the resolution of the probe."""
        if not len(self._probe):
            return {}
        by_side: dict[str, dict[int, np.ndarray]] = {}
        for side in self._config.eval.resolutions:
            rows = picture_batches(self._config, self._probe, side=side)
            embedded = self._embed(model, **rows)
            for name, values in embedded.scores.items():
                by_side.setdefault(name, {})[side] = agreement.gather_rows(values)
        correlations = {
            name: quality_scores.correlation_with_sides(scores)
            for name, scores in by_side.items()
        }
        self._warn(model.step, correlations)
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

    def _embed(
        self, model: Snapshot, batches: Batches, count: int, calls: int
    ) -> Embedded:
        regression = model.params["head"].get(REGRESSION)
        known = model.state[UNRECOGNIZABLE]
        return embed_images(
            batches,
            model.embed,
            count=count,
            batch_size=self._config.eval.batch_size // hosts.here().count,
            flip=False,
            calls=calls,
            scorer=run_scorer.scorer(self._config, regression, known),
        )
