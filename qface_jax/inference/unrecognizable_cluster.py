"""Where unrecognizable images lie in a model, and how far from them faces stand."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from qface_jax.data_pipelines.sources import chosen_records, unrecognizable_images
from qface_jax.data_pipelines.stream import faces
from qface_jax.evals.measures.unit import unit
from qface_jax.inference.embed import Embedded, embed_images
from qface_jax.inference.embedding import Embed
from qface_jax.processes import agreement, hosts
from qface_jax.processes.share import Share

_MIN_LENGTH = 1e-12
Batches = Iterator[np.ndarray]


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


def cluster_of(found: Embedded, gather: Callable[[np.ndarray], np.ndarray]) -> Cluster:
    """Returns the cluster of this host's and all other hosts' images.

    Args:
        found: Features of this host's images; there may be none.
        gather: Rows of this host -> rows of all (`agreement.gather_rows`).
    """
    units = unit(found.features)
    sums = gather(units.sum(axis=0, keepdims=True)).sum(axis=0)
    count = gather(np.array([len(units)])).sum()
    mean = sums / max(count, 1)
    length = float(np.linalg.norm(mean))
    centre = mean / max(length, _MIN_LENGTH)
    scores = {name: gather(values) for name, values in found.scores.items()}
    return Cluster(centre, length, gather(units @ centre), scores)


def ui_batches(
    images: unrecognizable_images.UnrecognizableImages, batch_size: int
) -> tuple[Batches, int, int]:
    """Returns this host's batches of UIs, how many images, and how many batches.

    Args:
        images: The set.
        batch_size: Of all hosts together.
    """
    place = hosts.here()
    share = batch_size // place.count
    positions = np.arange(images.count)
    mine = int(np.sum(positions % batch_size // share == place.index))
    found = images.batches(batch_size, host=place.index, hosts=place.count)
    calls = -(-images.count // batch_size)
    # Padding stands behind the images of a batch; the embedding pads by itself.
    kept = (rows[valid] for rows, valid in found)
    return (rows for rows in kept if len(rows)), mine, calls


class Measured(NamedTuple):
    """What `measure` found.

    Attributes:
        cluster: The unrecognizable images.
        faces: Cosine of each face with their centre, [m].
        told: A line that says what was measured.
    """

    cluster: Cluster
    faces: np.ndarray
    told: str


def measure(config: ConfigDict, source: Any, embed: Embed, *, count: int) -> Measured:
    """Embeds unrecognizable images and training faces. All hosts call it.

    Args:
        config: Names the UIs, and how pictures are read.
        source: Training data; the first of it in a run's order are the faces.
        embed: Takes this host's share of `eval.batch_size` images.
        count: Of the faces, at most.
    """
    images = unrecognizable_images.open_unrecognizable(config, source)
    place, total = hosts.here(), config.eval.batch_size
    run = partial(
        embed_images, embed=embed, batch_size=total // place.count, flip=False
    )
    batches, mine, calls = ui_batches(images, total)
    cluster = cluster_of(run(batches, count=mine, calls=calls), agreement.gather_rows)
    chosen = chosen_records.first_of_run(source, count, seed=config.seed)
    found = run(**picture_batches(config, chosen, side=112))
    cosines = agreement.gather_rows(unit(found.features) @ cluster.centre)
    told = f"{images.describe()}; {len(chosen):,} of {len(source):,} training faces"
    return Measured(cluster, cosines, told)


def picture_batches(
    config: ConfigDict, pictures: chosen_records.ChosenRecords, *, side: int
) -> dict[str, Any]:
    """Returns this host's batches of pictures at a side, as `embed_images` takes them.

    Args:
        config: `eval.batch_size`, `eval.antialias` and `data.resize` are used.
        pictures: Of all hosts.
        side: In px.
    """
    place, total = hosts.here(), len(pictures)
    share = Share(place.index, place.count)
    mine, size = share.pairs(total), config.eval.batch_size // place.count
    own = pictures.part(mine.start, mine.stop)
    stream = faces.eval_batches(
        own,
        side=side,
        batch_size=size,
        antialias=config.eval.antialias,
        resize=config.data.resize,
    )
    calls = -(-share.most_pairs(total) // size)
    batches = stream if len(own) else iter(())
    return {"batches": batches, "count": len(own), "calls": calls}
