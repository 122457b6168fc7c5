"""How alike the two views of training images are in a trained model, for its report."""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from qface_jax.processes import agreement
from qface_jax.report import norm_similarity
from qface_jax.sharded import parallel
from qface_jax.train import batches
from qface_jax.train.setup import Setup
from qface_jax.train.state import TrainState

PAIRS = 1024  # about so many are embedded


class Pairs(NamedTuple):
    """Raw features of training pairs, of all hosts.

    Attributes:
        q: Of the degraded views, [n, d].
        k: Of the originals, [n, d].
        labels: Identities, [n].
    """

    q: np.ndarray
    k: np.ndarray
    labels: np.ndarray


def embed_pairs(
    config: ConfigDict, source: Any, setup: Setup, state: TrainState
) -> Pairs:
    """Returns the features of the run's first pairs with the running statistics.

    All hosts call it; each embeds its own rows.

    Args:
        config: Of the run.
        source: Its training data.
        setup: Its parts.
        state: What is looked at.
    """
    steps = max(PAIRS // config.data.batch_size, 1)
    rows_of_steps = batches.stream(
        config, source, setup.plan, start_step=0, total_steps=steps
    )

    def embed(images):
        rows = parallel.to_device(np.ascontiguousarray(images), setup.shard.rows)
        backbone = state.params["backbone"]
        features = setup.embed_fn(backbone, state.stats, rows)
        return np.asarray(parallel.LocalRows(features))

    parts = []
    with contextlib.closing(rows_of_steps):
        for rows in rows_of_steps:
            views = (embed(rows["images"][:, view]) for view in (0, 1))
            parts.append((*views, rows["labels"]))
    return Pairs(
        *(agreement.gather_rows(np.concatenate(x)) for x in zip(*parts, strict=True))
    )


def draw(run: Path, config: ConfigDict, pairs: Pairs, state: TrainState) -> Path:
    """Writes `RUN/samples/norm_similarity.png`.

    Args:
        run: Folder of the run.
        config: Of the run.
        pairs: From `embed_pairs`.
        state: Holds the norm statistics of the objective.
    """
    norms_q, norms_k = (np.linalg.norm(x, axis=1) for x in (pairs.q, pairs.k))
    z_q = pairs.q / np.maximum(norms_q, 1e-6)[:, None]
    z_k = pairs.k / np.maximum(norms_k, 1e-6)[:, None]
    others = pairs.labels[:, None] != pairs.labels[None, :]
    quality = state.aux["quality"]
    return norm_similarity.write(
        run,
        norms_q=norms_q,
        norms_k=norms_k,
        positive=np.sum(z_q * z_k, axis=1),
        negative=(z_q @ z_k.T)[others],
        norm_mean=float(quality.mean),
        norm_std=float(quality.std),
        qgface=config.qgface,
    )
