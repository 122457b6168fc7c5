"""Judges the pictures of a preview by a run: by its weights and norm statistics.

QGFace partitions by quality u (eq. 1-4): views with u > b are classified, pairs with
u_p <= b contrasted. With the momentum queue training takes u_k from the averaged
encoder, here it comes from the encoder itself.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.degradation.recipe import draws_pairs
from qface_jax.errors import ConfigError, DataError
from qface_jax.inference.embedder import Embedder
from qface_jax.losses import norm_stats, quality_partition
from qface_jax.runs.checkpoint import load_parts
from qface_jax.runs.run_folder import Run
from qface_jax.sharded import parallel
from qface_jax.tables import OBJECTIVES

AT_ONCE = 64  # pictures that are embedded together, at least
# uint8 [m, 112, 112, 3] -> u within [0, 1], [m].
Quality = Callable[[np.ndarray], np.ndarray]
# u_q [m], u_k [m] -> bool [m].
Contrasted = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Quality of n originals and of k draws of each.

    Attributes:
        u_originals: within [0, 1], [n].
        u_drawn: within [0, 1], [n, k].
        low: bool [n, k], the draws on the low side of the partition; None where the
            config does not partition.
        facts: lines that say so.
    """

    u_originals: np.ndarray
    u_drawn: np.ndarray
    low: np.ndarray | None
    facts: list[str]


def measure(
    images: np.ndarray,
    embedder: Embedder,
    quality: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Returns the quality u of pictures, [m].

    Args:
        images: uint8 [m, 112, 112, 3].
        embedder: Of the run that judges.
        quality: features [m, d] -> u within [0, 1], [m].

    Raises:
        DataError: the features are not finite.
    """
    size = embedder.rows
    batches = (images[at : at + size] for at in range(0, len(images), size))
    features = embedder.embed(batches, count=len(images)).features
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise DataError(
            f"quality: got NaN or infinite features for {(~finite).sum()} of "
            f"{len(images)} images; the run has diverged, give another --checkpoint"
        )
    return np.asarray(quality(features))


def judge_pairs(
    originals: np.ndarray,
    drawn: np.ndarray,
    *,
    quality: Quality,
    contrasted: Contrasted,
    group: ConfigDict,
) -> Verdict:
    """Judges pairs of a drawn view q and its original k, by the quality of the pair.

    Args:
        originals: uint8 [n, 112, 112, 3].
        drawn: uint8 [n, k, 112, 112, 3].
        quality: of pictures.
        contrasted: of pairs; not asked where `group.partition` is none.
        group: `config.qgface`.
    """
    u_k, u_q = _qualities(originals, drawn, quality)
    if group.partition == "none":
        fact = f"partition none: all {u_q.size} pairs contrasted, all views classified"
        return Verdict(u_k, u_q, None, [fact])
    beside = np.repeat(u_k, u_q.shape[1])
    low = np.asarray(contrasted(u_q.ravel(), beside)).reshape(u_q.shape)
    bound = group.threshold
    facts = [
        f"pair quality u_p = {group.partition}(u_q, u_k), threshold {bound:g}: "
        f"{low.sum()} of {low.size} pairs contrasted (red, u_p <= {bound:g}), "
        f"{(~low).sum()} only classified (green)",
        f"views with u > {bound:g}: {(u_q > bound).sum()} of {u_q.size} q, "
        f"{(u_k > bound).sum()} of {u_k.size} k",
    ]
    if group.queue == "none":
        facts.append("queue none: there is no contrastive loss for the red pairs")
    return Verdict(u_k, u_q, low, facts)


def judge_views(
    originals: np.ndarray, drawn: np.ndarray, *, quality: Quality, group: ConfigDict
) -> Verdict:
    """Judges single views, by the threshold that QGFace would set.

    Args:
        originals: uint8 [n, 112, 112, 3].
        drawn: uint8 [n, k, 112, 112, 3].
        quality: of pictures.
        group: `config.qgface`.
    """
    u_originals, u_drawn = _qualities(originals, drawn, quality)
    low = u_drawn <= group.threshold
    bound = f"{group.threshold:g}"
    fact = (
        f"threshold {bound}: {low.sum()} of {low.size} views with u <= {bound} (red), "
        f"{(~low).sum()} above (green)"
    )
    return Verdict(u_originals, u_drawn, low, [fact])


def _qualities(
    originals: np.ndarray, drawn: np.ndarray, quality: Quality
) -> tuple[np.ndarray, np.ndarray]:
    """Returns u of the originals [n] and of the draws [n, k], all embedded at once."""
    count = len(originals)
    u = quality(np.concatenate([originals, drawn.reshape(-1, *drawn.shape[2:])]))
    return u[:count], u[count:].reshape(drawn.shape[:2])


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
    quality, description = _quality_by(run, group.concentration)

    def contrasted(u_q, u_k):
        return quality_partition.is_contrasted(
            jnp.asarray(u_q),
            jnp.asarray(u_k),
            threshold=group.threshold,
            pair_quality=group.partition,
        )

    judge = partial(judge_views, quality=quality, group=group)
    # A recipe that draws both views leaves no original among the pairs.
    if views == 2 and not draws_pairs(config.degrade.recipe):
        judge = partial(
            judge_pairs,
            quality=quality,
            contrasted=contrasted,
            group=group,
        )

    def judge_and_tell(originals, drawn):
        verdict = judge(originals, drawn)
        return dataclasses.replace(verdict, facts=[description, *verdict.facts])

    return judge_and_tell


def _quality_by(run: Run, concentration: float) -> tuple[Quality, str]:
    """Images -> quality by a run, and a line that says by what."""
    # Those of the objective, else those of the margin.
    names = (OBJECTIVES[run.config.objective].norm_statistics, "margin")
    paths = tuple(f"aux/{name}" for name in names if name is not None)
    _, saved = load_parts(run.path, "last", paths)
    fields = dict.fromkeys(norm_stats.NormStats._fields)
    kept = [
        part
        for part in saved.values()
        if isinstance(part, dict) and part.keys() == fields.keys()
    ]
    if not kept:
        raise ConfigError(
            f"{run.path}: has objective {run.config.objective} and loss.margin "
            f"{run.config.loss.margin}, or is an imported model, which keep no "
            "statistics of the feature norms to judge pictures by; give a run that was "
            "trained with loss.margin=adaface or objective=qgface, or leave "
            "--checkpoint out"
        )
    statistics = norm_stats.NormStats(**jax.tree.map(jnp.asarray, kept[0]))
    mesh = parallel.make_mesh()
    embedder = Embedder.from_run(run, "last", mesh, batch_size=AT_ONCE)

    def quality(features):
        norms = norm_stats.feature_norms(jnp.asarray(features))
        norm_hat = norm_stats.norm_hat(statistics, norms, concentration=concentration)
        return quality_partition.quality(norm_hat)

    return partial(measure, embedder=embedder, quality=quality), (
        f"u by {run.path}, step {embedder.step}: norms {statistics.mean:.4g} +- "
        f"{statistics.std:.4g}, concentration {concentration:.3g}"
    )
