"""Batches of faces: for training by step, for evaluation in order.

The batch of step t is a function of (seed, t) alone. Both streams are tf.data: one
Python call fetches the records of a batch, everything after it runs in TensorFlow's
own threads, one picture at a time, in a fixed order.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from qface_jax.data_pipelines.degradation.recipe import SIDE, Recipe
from qface_jax.data_pipelines.degradation.steps import down_up
from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.data_pipelines.sources.chosen_records import ChosenRecords
from qface_jax.data_pipelines.sources.skipping_source import SkippingSource
from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import alignment, decoding, order
from qface_jax.data_pipelines.stream.decoding import Records
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.errors import ConfigError
from qface_jax.tables import RECIPES

_FETCHES_AT_ONCE = 2  # batches that are read side by side
_BATCHES_AHEAD = 2


def stream(
    source: Source,
    *,
    batch_size: int,
    recipe: str,
    params: Any,
    seed: int,
    start_step: int,
    total_steps: int,
    host: int = 0,
    hosts: int = 1,
    workers: int = 0,
    beside: Any | None = None,
    plan: PairPlan | None = None,
    resize: str = "crop",
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this host's rows of the training batches of steps start .. total - 1.

    Row j of the global batch of step t is position g = t * batch_size + j of the
    endless stream: its record follows from (seed, g) by `order.record_indices`, or from
    t and j by the plan; its draws from (seed, g), a view's beside from (seed, -1 - g).

    Args:
      source: the records.
      batch_size: rows of all hosts together, a multiple of `hosts`.
      recipe: of `tables.RECIPES`.
      params: its options as attributes.
      seed: 0 .. 2^31 - 1.
      start_step: the first step, at least 0.
      total_steps: one past the last step.
      host: which rows, 0 .. hosts - 1.
      hosts: that share the batch.
      workers: threads that decode; 0: TensorFlow decides.
      beside: options of the recipe clean, by which there is a second view of every
        record. None: there are those of `recipe`.
      plan: of the same batch size, says which records a step takes. None: every epoch
        takes each record once.
      resize: of pictures that are not 112 px, as of `decoding.fit`.

    Yields:
      {"images": uint8 [batch_size / hosts, 112, 112, 3] RGB,
       "labels": int32 [batch_size / hosts]}. With `beside`, or a recipe of two views,
      the images are [batch_size / hosts, 2, 112, 112, 3]: first the degraded view, the
      same as without `beside`, then the clean one.

    Raises:
      ConfigError: unknown recipe, or a batch that the hosts cannot share.
      DataError: a record cannot be read or is no picture; names the record.
    """
    if batch_size < 1 or batch_size % hosts:
        raise ConfigError(
            f"data.batch_size: got {batch_size}, must be a positive multiple of the "
            f"{hosts} hosts"
        )
    one = _views(RECIPES[recipe], params, seed, beside, resize)
    records = Records(
        source.fetch,
        lambda index: record_name(source, index),
        source if isinstance(source, SkippingSource) else None,
        of_training=True,
    )
    place = {"batch_size": batch_size, "host": host, "hosts": hosts}
    select = _selection(len(source), plan, seed, **place)

    def build(first: int) -> tf.data.Dataset:
        steps = tf.data.Dataset.range(first, total_steps)
        return _pipeline(steps, select, records, one, batch_size // hosts, workers)

    return _batches(build, select, records, start_step, total_steps)


def _selection(
    num_records: int,
    plan: PairPlan | None,
    seed: int,
    *,
    batch_size: int,
    host: int,
    hosts: int,
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A step -> the positions of this host's rows, and the records that they take."""
    share = batch_size // hosts

    def planned(step: np.ndarray) -> np.ndarray:
        return plan.records(int(step))[host * share : (host + 1) * share]

    def select(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = order.rows_of_step(step, batch_size=batch_size, host=host, hosts=hosts)
        if plan is None:
            return rows, order.record_indices(rows, seed=seed, num_records=num_records)
        return rows, tf.numpy_function(planned, [step], tf.int64, stateful=False)

    return select


def _views(
    recipe: Recipe, params: Any, seed: int, beside: Any | None, resize: str
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict]:
    """What is done to each record: the element of the stream that it becomes."""

    def one(encoded: tf.Tensor, label: tf.Tensor, position: tf.Tensor) -> dict:
        picture = decoding.decode(encoded, resize)
        of_run = tf.constant(seed, tf.int64)
        image = recipe.draw(picture, tf.stack([of_run, position]), params)
        if beside is not None:
            # No position is negative, so no view shares its draws with another.
            clean = RECIPES["clean"].draw(
                picture, tf.stack([of_run, -1 - position]), beside
            )
            image = tf.stack([image, clean])
        return {"images": image, "labels": label}

    return one


def eval_batches(
    pair_set: PairSet,
    *,
    side: int,
    batch_size: int,
    antialias: bool = True,
    workers: int = 0,
    resize: str = "crop",
) -> Iterator[np.ndarray]:
    """Yields the images of a pair set in order, seen at a lower resolution.

    Args:
      pair_set: the images; with `transforms` [n, 2, 3], as of `alignment.similarity`,
        they are aligned, not resized.
      side: pixels the pictures go down to and up again from, bicubic; 112 leaves them
        alone.
      batch_size: images at a time, at least 1.
      antialias: in the down-sampling.
      workers: threads that decode; 0: TensorFlow decides.
      resize: of pictures that are not 112 px, as of `decoding.fit`.

    Yields:
      uint8 [batch_size, 112, 112, 3] RGB, the last one shorter where need be.

    Raises:
      ConfigError: the side is out of range.
      DataError: an image cannot be read or is no picture; names it.
    """
    if not 1 <= side <= SIDE:
        raise ConfigError(f"eval.resolutions: got {side}, must be in 1 .. {SIDE}")

    def fetch(indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        return pair_set.fetch(indices), np.zeros(len(indices), np.int32)

    chosen = pair_set if isinstance(pair_set, ChosenRecords) else None
    records = Records(
        fetch,
        chosen.place if chosen else lambda index: f"{pair_set.name}: image {index}",
        chosen.skipping if chosen else None,
        of_training=chosen is not None and chosen.of_training,
    )
    transforms = getattr(pair_set, "transforms", None)

    def one(encoded: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        if transforms is None:
            picture = decoding.decode(encoded, resize)
        else:
            matrix = tf.gather(tf.constant(transforms), place)
            picture = alignment.aligned(decoding.pixels(encoded), matrix)
        return down_up(picture, side=side, antialias=antialias)

    return in_order(records, len(pair_set), one, batch_size=batch_size, workers=workers)


def in_order(
    records: Records,
    count: int,
    one: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    *,
    batch_size: int,
    workers: int = 0,
) -> Iterator[np.ndarray]:
    """Yields records 0 .. count - 1 as pictures, each once.

    Args:
      records: what is fetched; their labels are not looked at.
      count: how many there are.
      one: encoded string [], place int64 [] -> the picture.
      batch_size: pictures at a time, at least 1.
      workers: threads that decode; 0: TensorFlow decides.

    Yields:
      [batch_size, ...] of what `one` makes, the last one shorter where need be.

    Raises:
      DataError: a record cannot be read or is no picture; names it.
    """

    def select(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        first = step * batch_size
        rows = tf.range(first, tf.minimum(first + batch_size, count))
        return rows, rows

    def element(encoded: tf.Tensor, label: tf.Tensor, place: tf.Tensor) -> dict:
        del label
        return {"images": one(encoded, place)}

    steps = -(-count // batch_size)

    def build(first: int) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(first, steps)
        return _pipeline(numbers, select, records, element, batch_size, workers)

    return (batch["images"] for batch in _batches(build, select, records, 0, steps))


def _pipeline(steps, select, records, one, rows: int, workers: int) -> tf.data.Dataset:
    """The dataset from step numbers to batches of `rows` elements."""

    def fetch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        positions, indices = select(step)
        encoded, labels = tf.numpy_function(
            records.load, [step, indices], (tf.string, tf.int32), stateful=False
        )
        encoded = tf.ensure_shape(encoded, [None])
        return encoded, tf.ensure_shape(labels, [None]), positions

    threads = workers or tf.data.AUTOTUNE
    untouched = tf.autograph.experimental.do_not_convert
    dataset = steps.map(
        untouched(fetch), num_parallel_calls=_FETCHES_AT_ONCE, deterministic=True
    )
    dataset = dataset.unbatch()
    dataset = dataset.map(
        untouched(one), num_parallel_calls=threads, deterministic=True
    )
    dataset = dataset.batch(rows).prefetch(_BATCHES_AHEAD)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = workers  # 0: TensorFlow decides
    # Sums in a matrix product must not depend on how many threads share them.
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def _batches(build, select, records: Records, first: int, last: int) -> Iterator[dict]:
    """Runs the dataset; a record that TensorFlow cannot decode restarts it there."""
    step = first
    while step < last:
        try:
            for batch in build(step).as_numpy_iterator():
                if step in records.failures:
                    raise records.failures[step]
                yield batch
                step += 1
        except tf.errors.InvalidArgumentError as error:
            if step in records.failures:
                raise records.failures[step] from None
            _, indices = select(tf.constant(step, tf.int64))
            if not records.learn(indices.numpy()):
                raise error
