"""The cluster of unrecognizable images during training: embedded now and then.

At the same times a few training pictures are embedded at every resolution, and each
score's rank correlation with it is logged: a score that falls as pictures get better is
said to be none in this model.
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sources import chosen_records, unrecognizable_images
from qface_jax.evals.measures import quality_scores
from qface_jax.evals.measures.quality_scores import RI
from qface_jax.inference import run_scorer
from qface_jax.inference.embed import Embedded, embed_images
from qface_jax.inference.embedding import embedder
from qface_jax.inference.unrecognizable_cluster import (
    Batches,
    Cluster,
    cluster_of,
    picture_batches,
    ui_batches,
)
from qface_jax.processes import agreement, hosts
from qface_jax.sharded import parallel
from qface_jax.train.setup import Setup
from qface_jax.train.state import TrainState


class UICluster:
    """What is refreshed between the steps of a run with objective recognizability."""

    def __init__(self, config: ConfigDict, source: Any, setup: Setup):
        """Opens the unrecognizable images.

        Args:
            config: Of the run.
            source: Its training data.
            setup: Its parts.

        Raises:
            DataError: the images cannot be read, or there are fewer than two.
        """
        group = config.recognizability
        self._config, self._setup = config, setup
        self._interval = group.refresh_interval
        self._images = unrecognizable_images.open_unrecognizable(config, source)
        self._probe = chosen_records.first_of_run(
            source, group.probe_images, seed=config.seed
        )
        self._wrong: list[str] = []

    def describe(self) -> str:
        """Returns where the unrecognizable images come from, in a line."""
        return self._images.describe()

    def due(self, step: int) -> bool:
        """Whether the state must be refreshed before this step, counted from 1."""
        return (step - 1) % self._interval == 0

    def refresh(self, state: TrainState) -> tuple[TrainState, dict[str, float]]:
        """Returns the state with the cluster as its model sees it, and scalars.

        All hosts call it. The model is that of evaluation: running statistics, no
        dropout. A pure function of the state, so that a resumed run goes the same way.

        Args:
            state: Before the step.
        """
        found = self._cluster(state)
        ui = {
            "centre": np.float32(found.centre),
            "mean": np.float32(found.scores[RI].mean()),
            "std": np.float32(found.scores[RI].std()),
        }
        ui = parallel.replicate(ui, self._setup.shard)
        state = state.replace(aux=state.aux | {"ui": ui})
        values = {
            "ui_tightness": found.tightness,
            "ri_ui_mean": float(found.scores[RI].mean()),
            "ri_ui_std": float(found.scores[RI].std()),
        }
        return state, values | self._correlations(state)

    def _cluster(self, state: TrainState) -> Cluster:
        size = self._config.eval.batch_size
        batches, mine, calls = ui_batches(self._images, size)
        # The cluster is about to be found; only the index is asked for.
        found = self._embed(state, batches, count=mine, calls=calls)
        return cluster_of(found, agreement.gather_rows)

    def _correlations(self, state: TrainState) -> dict[str, float]:
        """Rank correlations of the scores with the resolution of the probe."""
        if not len(self._probe):
            return {}
        by_side: dict[str, dict[int, np.ndarray]] = {}
        for side in self._config.eval.resolutions:
            rows = picture_batches(self._config, self._probe, side=side)
            found = self._embed(state, **rows)
            for name, values in found.scores.items():
                by_side.setdefault(name, {})[side] = agreement.gather_rows(values)
        correlations = {
            name: quality_scores.correlation_with_sides(found)
            for name, found in by_side.items()
        }
        self._warn(int(state.step), correlations)
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
        self, state: TrainState, batches: Batches, count: int, calls: int
    ) -> Embedded:
        weights = (state.params["backbone"], state.stats)
        embed = embedder(self._setup.embed_fn, *weights, self._setup.shard)
        return embed_images(
            batches,
            embed,
            count=count,
            batch_size=self._config.eval.batch_size // hosts.here().count,
            flip=False,
            calls=calls,
            scorer=run_scorer.of_state(self._config, state),
        )


def build(config: ConfigDict, source: Any, setup: Setup) -> UICluster | None:
    """Returns what is refreshed between a run's steps; None where nothing is.

    Args:
        config: Of the run.
        source: Its training data.
        setup: Its parts.
    """
    if config.objective != "recognizability":
        return None
    return UICluster(config, source, setup)
