"""Judges the pictures of a preview by a run: by its weights and norm statistics."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.recipe import draws_pairs
from qface_jax.errors import ConfigError
from qface_jax.inference import pair_quality
from qface_jax.inference.embedding import run_embedder
from qface_jax.inference.pair_quality import Quality, Verdict
from qface_jax.losses import norm_stats, quality_partition
from qface_jax.runs.checkpoint import load_parts
from qface_jax.runs.run_folder import Run

AT_ONCE = 64  # pictures that are embedded together, at least


def judge_by(
    run: Run, config: ConfigDict, *, views: int
) -> Callable[[np.ndarray, np.ndarray], Verdict]:
    """Returns what judges a preview, from originals and draws to a verdict.

    u = (norm_hat + 1) / 2, norm_hat by the run's statistics and the concentration of
    `config.qgface`; features come from the last checkpoint, with running statistics.

    Args:
        run: Has weights and norm statistics.
        config: Its `qgface` group says how pairs or views are judged; need not be the
            run's.
        views: Pictures of each image that its objective takes: of two, pairs are
            judged, unless the recipe draws both.

    Returns:
        (originals uint8 [n, 112, 112, 3], draws uint8 [n, k, 112, 112, 3]) -> verdict.

    Raises:
        ConfigError: the run keeps no norm statistics, or has no checkpoint.
        UserError: its checkpoint is damaged.
    """
    group = config.qgface
    quality, told = _quality_by(run, group.concentration)

    def contrasted(u_q, u_k):
        return quality_partition.is_contrasted(
            jnp.asarray(u_q),
            jnp.asarray(u_k),
            threshold=group.threshold,
            pair_quality=group.partition,
        )

    judge = partial(pair_quality.judge_views, quality=quality, group=group)
    # A recipe that draws both views leaves no original among the pairs.
    if views == 2 and not draws_pairs(config.degrade.recipe):
        judge = partial(
            pair_quality.judge_pairs,
            quality=quality,
            contrasted=contrasted,
            group=group,
        )

    def judge_and_tell(originals, drawn):
        verdict = judge(originals, drawn)
        return dataclasses.replace(verdict, facts=[told, *verdict.facts])

    return judge_and_tell


def _quality_by(run: Run, concentration: float) -> tuple[Quality, str]:
    """Images -> quality by a run, and a line that says by what."""
    path = pair_quality.statistics_path(run.config)
    _, saved = load_parts(run.path, "last", (path,))
    if not saved[path]:
        raise ConfigError(
            f"{run.path}: keeps no statistics of feature norms to judge pictures by, "
            "as an imported model keeps none; give a run that was trained with "
            "loss.margin=adaface or objective=qgface"
        )
    kept = norm_stats.NormStats(**jax.tree.map(jnp.asarray, saved[path]))
    step, embed = run_embedder(run, "last")

    def quality(features):
        norms = norm_stats.feature_norms(jnp.asarray(features))
        norm_hat = norm_stats.norm_hat(kept, norms, concentration=concentration)
        return quality_partition.quality(norm_hat)

    devices = jax.device_count()
    measure = partial(
        pair_quality.measure,
        embed=embed,
        quality=quality,
        batch_size=-(-AT_ONCE // devices) * devices,
    )
    return measure, (
        f"u by {run.path}, step {step}: norms {kept.mean:.4g} +- {kept.std:.4g}, "
        f"concentration {concentration:.3g}"
    )
