"""Quality of previewed pictures by the feature norms of a run, and who falls where.

QGFace partitions by quality u (eq. 1-4): views with u > b are classified, pairs with
u_p <= b contrasted. With the momentum queue training takes u_k from the averaged
encoder, here it comes from the encoder itself.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from qface_jax.errors import ConfigError, DataError
from qface_jax.inference.embed import Embed, embed_images
from qface_jax.tables import OBJECTIVES

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


def statistics_path(config: ConfigDict) -> str:
    """Returns where the state of a run keeps its norm statistics.

    Args:
        config: of the run.

    Raises:
        ConfigError: it keeps none.
    """
    kept = OBJECTIVES[config.objective].norm_statistics
    if kept is not None:
        return f"aux/{kept}"
    if config.loss.margin == "adaface":
        return "aux/margin"
    raise ConfigError(
        f"quality: the run has objective {config.objective} and loss.margin "
        f"{config.loss.margin}, which keep no statistics of the feature norms; give a "
        "run of objective qgface or loss.margin adaface, or leave --checkpoint out"
    )


def measure(
    images: np.ndarray,
    embed: Embed,
    quality: Callable[[np.ndarray], np.ndarray],
    *,
    batch_size: int,
) -> np.ndarray:
    """Returns the quality u of pictures, [m].

    Args:
        images: uint8 [m, 112, 112, 3].
        embed: uint8 [batch_size, 112, 112, 3] -> raw features [batch_size, d].
        quality: features [m, d] -> u within [0, 1], [m].
        batch_size: rows of each call of `embed`.

    Raises:
        DataError: the features are not finite.
    """
    found = embed_images(
        (images[at : at + batch_size] for at in range(0, len(images), batch_size)),
        embed,
        count=len(images),
        batch_size=batch_size,
        flip=False,
    )
    finite = np.isfinite(found.features).all(axis=1)
    if not finite.all():
        raise DataError(
            f"quality: got NaN or infinite features for {(~finite).sum()} of "
            f"{len(images)} images; the run has diverged, give another --checkpoint"
        )
    return np.asarray(quality(found.features))


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
