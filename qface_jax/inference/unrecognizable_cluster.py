"""Where unrecognizable images lie in a model, and how far from them faces stand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sources.chosen_records import ChosenRecords
from qface_jax.data_pipelines.sources.unrecognizable_images import (
    UnrecognizableImages,
)
from qface_jax.data_pipelines.stream import faces
from qface_jax.evals.embedded import Embedded
from qface_jax.evals.measures.unit import unit
from qface_jax.inference.embedder import Embedder
from qface_jax.processes import agreement, hosts
from qface_jax.processes.share import Share

_MIN_LENGTH = 1e-12


class Cluster(NamedTuple):
    """Where unrecognizable images lie.

    Attributes:
        centre: Their mean unit embedding, made unit, float64 [d]; zeros where the mean
            is zero.
        tightness: Length of that mean, within [0, 1]: 1 where all embeddings are one.
        cosines: Of each image with the centre, [n].
        scores: Of each image, by name, [n].
    """

    centre: np.ndarray
    tightness: float
    cosines: np.ndarray
    scores: dict[str, np.ndarray]


def cluster_of(
    embedded: Embedded, gather: Callable[[np.ndarray], np.ndarray]
) -> Cluster:
    """Returns the cluster of this host's and all other hosts' images.

    Args:
        embedded: Features of this host's images; there may be none.
        gather: Rows of this host -> rows of all (`agreement.gather_rows`).
    """
    units = unit(embedded.features)
    sums = gather(units.sum(axis=0, keepdims=True)).sum(axis=0)
    count = gather(np.array([len(units)])).sum()
    mean = sums / max(count, 1)
    length = float(np.linalg.norm(mean))
    centre = mean / max(length, _MIN_LENGTH)
    scores = {name: gather(values) for name, values in embedded.scores.items()}
    return Cluster(centre, length, gather(units @ centre), scores)


def unrecognizable_batches(
    images: UnrecognizableImages, batch_size: int
) -> dict[str, Any]:
    """Returns this host's batches of unrecognizable images, as `Embedder.embed` takes.

    Args:
        images: Of all hosts.
        batch_size: Of all hosts together.
    """
    place = hosts.place()
    share = batch_size // place.count
    positions = np.arange(images.count)
    count = int(np.sum(positions % batch_size // share == place.index))
    batches = images.batches(batch_size, host=place.index, hosts=place.count)
    # Padding stands behind the images of a batch; the embedder pads by itself.
    valid_rows = (rows[valid] for rows, valid in batches)
    return {
        "batches": (rows for rows in valid_rows if len(rows)),
        "count": count,
        "calls": -(-images.count // batch_size),
    }


class Measured(NamedTuple):
    """What `measure` returns.

    Attributes:
        cluster: The unrecognizable images.
        faces: Cosine of each face with their centre, [m].
    """

    cluster: Cluster
    faces: np.ndarray


def measure(
    images: UnrecognizableImages, chosen: ChosenRecords, embedder: Embedder
) -> Measured:
    """Embeds unrecognizable images and training faces. All hosts call it.

    Args:
        images: The unrecognizable images, of all hosts.
        chosen: The faces, of all hosts.
        embedder: Embeds both, and scores them.
    """
    batches = unrecognizable_batches(images, embedder.batch_size)
    cluster = cluster_of(embedder.embed(**batches), agreement.gather_rows)
    embedded = embedder.embed(**picture_batches(chosen, embedder, side=112))
    cosines = agreement.gather_rows(unit(embedded.features) @ cluster.centre)
    return Measured(cluster, cosines)


def picture_batches(
    pictures: ChosenRecords, embedder: Embedder, *, side: int
) -> dict[str, Any]:
    """Returns this host's batches of pictures at a side, as `Embedder.embed` takes.

    Args:
        pictures: Of all hosts.
        embedder: Says how they are read, and how many at a time.
        side: In px.
    """
    place, total = hosts.place(), len(pictures)
    share = Share(place.index, place.count)
    rows, size = share.pairs(total), embedder.rows
    share_of_pictures = pictures.part(rows.start, rows.stop)
    batches = faces.eval_batches(
        share_of_pictures,
        side=side,
        batch_size=size,
        antialias=embedder.antialias,
        resize=embedder.resize,
    )
    return {
        "batches": batches if len(rows) else (),
        "count": len(rows),
        "calls": -(-share.most_pairs(total) // size),
    }
