"""Features of images with what became of each: what whoever embeds images gets."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from qface_jax.data_pipelines.sources.image_status import OK, Status
from qface_jax.evals.embedded import Embedded
from qface_jax.evals.measures.quality_scores import NORM
from qface_jax.evals.measures.unit import unit
from qface_jax.report.face_scores import NON_FINITE

NOT_FINITE = "its feature has NaN or infinite values"


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Features of images, in their order.

    Attributes:
        features: Not normalised, float32 [n, d]; zero where an image cannot be used.
        scores: Quality scores by name, float64 [n] each, larger is better: of the image
            itself, without its mirror image; -inf where an image cannot be used. "norm"
            is always there.
        names: Where each image comes from, [n].
        statuses: What became of each, [n]: "ok", "unreadable" (there are no bytes),
            "not_an_image" (the bytes cannot be decoded) or "non_finite" (its feature
            has NaN or infinite values).
        messages: What is wrong with it, [n]; "" where nothing is.
    """

    features: np.ndarray
    scores: dict[str, np.ndarray]
    names: list[str]
    statuses: list[str]
    messages: list[str]

    def __len__(self) -> int:
        """Returns n."""
        return len(self.features)

    @property
    def norms(self) -> np.ndarray:
        """Norms of the raw features of the images alone, float64 [n]."""
        return self.scores[NORM]

    @property
    def ok(self) -> np.ndarray:
        """Which images can be used, bool [n]."""
        return np.array([status == OK for status in self.statuses], bool)

    @property
    def unit(self) -> np.ndarray:
        """Features of unit length, float32 [n, d]; zero where one cannot be used."""
        return unit(self.features).astype(np.float32)


def checked(embedded: Embedded, read: Sequence[Status]) -> list[Status]:
    """Returns what became of images when they were embedded, too.

    Args:
        embedded: Their features [k, d].
        read: What became of them when they were read, [k].
    """
    finite = np.isfinite(embedded.features).all(axis=1)
    return [
        status._replace(status=NON_FINITE, message=NOT_FINITE)
        if status.status == OK and not good
        else status
        for status, good in zip(read, finite, strict=True)
    ]


def of_batches(batches: Iterable[tuple[Embedded, Sequence[Status]]]) -> Embeddings:
    """Returns the embeddings of one batch of images after another, at least one.

    Args:
        batches: Features, and what became of the images when they were read.
    """
    features: list[np.ndarray] = []
    scores: dict[str, list[np.ndarray]] = {}
    statuses: list[Status] = []
    for embedded, read in batches:
        batch_statuses = checked(embedded, read)
        bad = np.array([status.status != OK for status in batch_statuses], bool)
        statuses += batch_statuses
        features.append(np.where(bad[:, None], np.float32(0), embedded.features))
        for name, values in embedded.scores.items():
            scores.setdefault(name, []).append(np.where(bad, -math.inf, values))
    return Embeddings(
        np.concatenate(features),
        {name: np.concatenate(values) for name, values in scores.items()},
        [status.name for status in statuses],
        [status.status for status in statuses],
        [status.message for status in statuses],
    )
