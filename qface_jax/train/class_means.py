"""Class centres to start from: the mean unit feature of each class in a given model.

Where a model that exists is tuned to people it has not seen, random centres would first
pull its features apart; from their means on, both learn together.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.data_pipelines.sources.chosen_records import of_source
from qface_jax.data_pipelines.stream import faces
from qface_jax.inference.embedder import Embedder
from qface_jax.losses.vectors import unit
from qface_jax.processes import hosts
from qface_jax.processes.share import Share
from qface_jax.runs.progress import Progress
from qface_jax.sharded import classifier, parallel
from qface_jax.sharded.classifier import CENTRES
from qface_jax.train.setup import Setup
from qface_jax.train.state import TrainState


def with_class_means(source: Any, setup: Setup, state: TrainState) -> TrainState:
    """Returns the state with the mean unit feature of each class as its centre.

    Every training image is embedded once, as it is; broken ones are left out where
    `data.skip_broken` is set. No host holds all centres, and of the features no more
    than a batch is kept. A class whose mean is zero, or that has no image, keeps the
    centre it has.

    Args:
        source: Training data.
        setup: Parts of the run.
        state: Whose model embeds; without class centres it is returned as it is.
    """
    centres = state.params["head"].get(CENTRES)
    if centres is None:
        return state
    rows = setup.shard.rows

    def add(sums, features, labels):
        return classifier.add_rows(setup.mesh, sums, unit(features), labels)

    add = jax.jit(add, donate_argnums=0, out_shardings=rows)
    empty = jax.jit(lambda: jnp.zeros(centres.shape, jnp.float32), out_shardings=rows)
    sums, embedder = empty(), setup.embedder(state)
    for embedded, labels in embedder.stream(_batches(source, embedder)):
        missing = embedder.rows - len(labels)
        # Rows without a class fill the batch up.
        batch = (
            np.pad(embedded.features, ((0, missing), (0, 0))),
            np.pad(labels, (0, missing), constant_values=-1).astype(np.int32),
        )
        sums = add(sums, *parallel.to_device(batch, rows))
    means = _means(setup, sums, centres)
    params = state.params | {"head": state.params["head"] | {CENTRES: means}}
    return state.replace(params=params)


def _means(setup: Setup, sums: jax.Array, centres: jax.Array) -> jax.Array:
    """Unit sums, in the centres' type; the old centre where there is no direction."""

    def merge(sums, centres):
        length = jnp.sqrt(jnp.sum(sums**2, axis=1, keepdims=True))
        means = (sums / jnp.maximum(length, 1e-6)).astype(centres.dtype)
        return jnp.where(length > 1e-6, means, centres)

    return jax.jit(merge, out_shardings=setup.shard.rows)(sums, centres)


def _batches(
    source: Any, embedder: Embedder
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields this host's images and labels, equally many batches on every host."""
    place, count, size = hosts.place(), len(source), embedder.rows
    share = Share(place.index, place.count)
    records, labels = share.pairs(count), np.asarray(source.labels())
    pictures = of_source(source, np.arange(records.start, records.stop))
    stream = faces.eval_batches(
        pictures, side=112, batch_size=size, resize=embedder.resize
    )
    calls = -(-share.most_pairs(count) // size)
    with Progress(count, "images", "class means") as progress:
        for call in range(calls):
            first = records.start + call * size
            batch = labels[first : min(first + size, records.stop)]
            images = (
                next(stream) if len(batch) else np.zeros((0, 112, 112, 3), np.uint8)
            )
            # What was left out of this batch is black, and is of no class.
            start = first - records.start
            sound = pictures.part(start, start + len(batch)).usable()
            yield images, np.where(sound, batch, -1)
            progress.update(min(len(batch) * place.count, count))
