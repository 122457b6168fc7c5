"""Which record every row of every step takes: arithmetic on (seed, position).

Nothing is stored and nothing is replayed, so a restart costs as much as a step, and
any host can work out its own rows.
"""

import numpy as np
import tensorflow as tf

# index_shuffle takes whole numbers of 32 bits as seeds.
SEED_LIMIT = 2**31


def record_indices(positions: tf.Tensor, *, seed: int, num_records: int) -> tf.Tensor:
    """Returns the record at each position of the endless stream of epochs.

    Position g lies in epoch e = g // n at place g % n, and takes record
    `index_shuffle(g % n, seed=[seed, e], n - 1)`: every epoch is a permutation of all
    records, drawn anew.

    Args:
      positions: int64 [k], consecutive, at least 0.
      seed: 0 .. 2^31 - 1.
      num_records: n, at least 1.

    Returns:
      int64 [k] in 0 .. n - 1.

    Raises:
      ValueError: seed or n is out of range.
    """
    if not 0 <= seed < SEED_LIMIT:
        raise ValueError(f"seed: got {seed}, must be in 0 .. {SEED_LIMIT - 1}")
    if num_records < 1:
        raise ValueError(f"num_records: got {num_records}, must be at least 1")
    positions = tf.convert_to_tensor(positions, tf.int64)
    epochs, places = positions // num_records, positions % num_records
    first, last = epochs[0], epochs[-1]

    def shuffled(epoch: tf.Tensor) -> tf.Tensor:
        # One seed for the whole call: index_shuffle rejects a seed per index
        # (TensorFlow 2.21), hence one call per epoch that the rows touch.
        return tf.random.experimental.index_shuffle(
            places,
            seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
            max_index=tf.constant(num_records - 1, tf.int64),
        )

    def add_epoch(epoch: tf.Tensor, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return epoch + 1, tf.where(epochs == epoch, shuffled(epoch), records)

    _, records = tf.while_loop(
        lambda epoch, _: epoch <= last,
        add_epoch,
        [first + 1, shuffled(first)],
        parallel_iterations=1,
    )
    return records


def first_records(count: int, *, seed: int, num_records: int) -> np.ndarray:
    """Returns the first records of the first epoch, int64 [min(count, num_records)].

    Args:
      count: how many at most.
      seed: as of `record_indices`.
      num_records: likewise.
    """
    positions = tf.range(min(count, num_records), dtype=tf.int64)
    return record_indices(positions, seed=seed, num_records=num_records).numpy()


def rows_of_step(
    step: tf.Tensor, *, batch_size: int, host: int, hosts: int
) -> tf.Tensor:
    """Returns the positions in the stream of one host's rows of a step.

    Args:
      step: int64 [], at least 0.
      batch_size: rows of all hosts together, a multiple of `hosts`.
      host: 0 .. hosts - 1.
      hosts: at least 1.

    Returns:
      int64 [batch_size / hosts], consecutive.

    Raises:
      ValueError: the batch cannot be shared evenly, or there is no such host.
    """
    if hosts < 1 or not 0 <= host < hosts:
        raise ValueError(f"host: got {host} of {hosts}, must be in 0 .. hosts - 1")
    if batch_size < 1 or batch_size % hosts:
        raise ValueError(
            f"batch_size: got {batch_size}, must be a positive multiple of the "
            f"{hosts} hosts"
        )
    share = batch_size // hosts
    first = tf.cast(step, tf.int64) * batch_size + host * share
    return first + tf.range(share, dtype=tf.int64)
