"""How alike the two views of training images are in a trained model, for its report."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from qface_jax.objectives.objective import Hooks, Snapshot
from qface_jax.processes import agreement, hosts
from qface_jax.report.drawings import norm_similarity

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


class PairPictures(Hooks):
    """Draws the run's first pairs, as the trained model sees them."""

    def __init__(
        self,
        batch_size: int,
        options: dict[str, Any],
        *,
        batches: Callable[[int, int], Any],
        **unused: Any,
    ):
        """Takes where the pairs come from.

        Args:
            batch_size: Images of a step over all hosts.
            options: Values of the objective's options.
            batches: (first step, end) -> iterator over this host's rows.
        """
        self._options, self._batches = options, batches
        self._batch_size, self._steps = batch_size, max(PAIRS // batch_size, 1)

    def draw(self, run: Path, model: Snapshot, evaluated: Any) -> None:
        """Writes `RUN/samples/norm_similarity.png`."""
        pairs = self._embedded(model)
        if hosts.first():
            draw(run, self._options, pairs, model.state["quality"])

    def _embedded(self, model: Snapshot) -> Pairs:
        embedder = dataclasses.replace(model.embedder, batch_size=self._batch_size)

        def features(images):
            return embedder(images).wait().features

        parts = []
        with contextlib.closing(self._batches(0, self._steps)) as batches:
            for rows in batches:
                views = (features(rows["images"][:, view]) for view in (0, 1))
                parts.append((*views, rows["labels"]))
        return Pairs(
            *(
                agreement.gather_rows(np.concatenate(column))
                for column in zip(*parts, strict=True)
            )
        )


def draw(run: Path, options: dict[str, Any], pairs: Pairs, quality: Any) -> Path:
    """Writes `RUN/samples/norm_similarity.png`.

    Args:
        run: Folder of the run.
        options: Values of the objective's options.
        pairs: Features of the pairs.
        quality: Norm statistics of the objective, `losses.norm_stats.NormStats`.
    """
    norms_q, norms_k = (np.linalg.norm(x, axis=1) for x in (pairs.q, pairs.k))
    z_q = pairs.q / np.maximum(norms_q, 1e-6)[:, None]
    z_k = pairs.k / np.maximum(norms_k, 1e-6)[:, None]
    others = pairs.labels[:, None] != pairs.labels[None, :]
    return norm_similarity.write(
        run,
        norms_q=norms_q,
        norms_k=norms_k,
        positive=np.sum(z_q * z_k, axis=1),
        negative=(z_q @ z_k.T)[others],
        norm_mean=float(quality.mean),
        norm_std=float(quality.std),
        qgface=SimpleNamespace(**options),
    )
