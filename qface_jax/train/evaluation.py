"""Runs the evaluation protocols on a state, during training and after it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from qface_jax.configs import document
from qface_jax.data_pipelines.sets import pair_sets
from qface_jax.data_pipelines.stream import faces
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.measures.quality_scores import Scorer
from qface_jax.evals.measures.verification import fold_bounds
from qface_jax.evals.protocols.protocol import PROTOCOLS
from qface_jax.evals.results import Result
from qface_jax.inference import run_scorer
from qface_jax.inference.embedding import Embed, embedder
from qface_jax.inference.share import Share
from qface_jax.processes import agreement, hosts
from qface_jax.sharded import parallel


class EvaluationStopped(Exception):  # noqa: N818 (an event, not an error)
    """The run was asked to end while it was being evaluated."""


class Evaluation:
    """The sets of a config, opened once and evaluated as often as asked."""

    def __init__(self, config: ConfigDict, shard: parallel.Shardings):
        """Opens every set, so that a missing file is known before any training.

        Args:
            config: Validated config.
            shard: Where batches go.

        Raises:
            ConfigError: if two sets have one name, or too few pairs for the folds.
            DataError: if a set cannot be read, or holds one kind of pairs only.
        """
        self._config = config
        self._shard = shard
        self.sets = [pair_sets.open_pair_set(s, config.eval) for s in config.eval.sets]

        for pair_set in self.sets:
            _check_set(pair_set, config.eval.folds)
        files = [results.result_path("", s.name).name for s in self.sets]
        if len(set(files)) < len(files):
            raise ConfigError(
                f"eval.sets: {', '.join(config.eval.sets)} would write the same result "
                f"files ({', '.join(files)}); rename one of the files"
            )

    def embedder(self, embed_fn: Any, backbone: Any, stats: Any) -> Embed:
        """Returns what embeds this host's share of `eval.batch_size` images."""
        return embedder(embed_fn, backbone, stats, self._shard)

    def scorer(self, state: Any) -> Scorer:
        """Returns what scores the quality of images by a state in training."""
        return run_scorer.of_state(self._config, state)

    def run(
        self,
        embed: Embed,
        *,
        checkpoint: dict[str, Any],
        scorer: Scorer | None = None,
    ) -> Iterator[Result]:
        """Yields the result of each set.

        Args:
            embed: From `embedder`.
            checkpoint: What is evaluated, fit for JSON; goes into each result.
            scorer: What scores the quality of images; None: the norm of their features.
        """
        group = self._config.eval
        place = hosts.here()
        share = Share(place.index, place.count, agreement.gather_rows)
        batch_size = group.batch_size // place.count
        for pair_set in self.sets:
            mine = pair_sets.PairsWithin(pair_set, share.pairs(len(pair_set.issame)))
            batches = partial(
                _batches,
                mine,
                batch_size,
                antialias=group.antialias,
                workers=self._config.data.workers,
                resize=self._config.data.resize,
            )
            yield PROTOCOLS[group.protocol](
                pair_set,
                embed,
                batches,
                resolutions=group.resolutions,
                flip=group.flip,
                folds=group.folds,
                metric=group.metric,
                batch_size=batch_size,
                antialias=group.antialias,
                checkpoint=checkpoint,
                config_hash=document.digest(self._config),
                scorer=scorer,
                discard_fmr=group.discard_fmr,
                share=share,
            )


def _check_set(pair_set, folds):
    """Raises where no accuracy could be had, before any long work."""
    fold_bounds(len(pair_set.issame), folds)
    if np.all(pair_set.issame) or not np.any(pair_set.issame):
        kind = "same" if np.all(pair_set.issame) else "different"
        raise DataError(
            f"{pair_set.name}: all {len(pair_set.issame)} pairs are of {kind} "
            "identities; a constant answer would score 100 %: give both kinds"
        )


def _batches(pair_set, batch_size, side, *, antialias, workers, resize):
    return faces.eval_batches(
        pair_set,
        side=side,
        batch_size=batch_size,
        antialias=antialias,
        workers=workers,
        resize=resize,
    )


def evaluate_state(
    evaluation: Evaluation,
    setup: Any,
    state: Any,
    run: Path,
    *,
    folder: Path | None,
    stop: Callable[[], bool],
) -> tuple[dict[str, float], list[Result]]:
    """Evaluates a state in the middle of its run and writes the results.

    Args:
        evaluation: Sets of the run.
        setup: The run's `Setup`.
        state: State to evaluate; kept.
        run: Folder of the run.
        folder: In whose eval/ the results are written, the run's own or
            `results.before` of it; None: by another host.
        stop: Asked before each batch; True ends the evaluation.

    Returns:
        Scalars for the log, and the results.

    Raises:
        EvaluationStopped: when `stop` said so.
    """
    on_device = evaluation.embedder(
        setup.embed_fn, state.params["backbone"], state.stats
    )

    def embed(images):
        if stop():
            raise EvaluationStopped
        return on_device(images)

    checkpoint = {"path": str(run), "step": int(state.step)}
    found, values = [], {}
    scorer = evaluation.scorer(state)
    for result in evaluation.run(embed, checkpoint=checkpoint, scorer=scorer):
        if folder is not None:
            results.write(folder, result)
        values |= {
            f"{result.set}/{name}": value
            for name, value in results.scalars(result).items()
        }
        found.append(result)
    return values, found
