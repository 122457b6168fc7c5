"""The order of the records: a permutation per epoch, by arithmetic alone."""

import numpy as np
import pytest
import tensorflow as tf

from qface_jax.data_pipelines.stream import order


def records(first, count, *, seed, num_records):
    positions = tf.range(first, first + count, dtype=tf.int64)
    return order.record_indices(positions, seed=seed, num_records=num_records).numpy()


@pytest.mark.parametrize("num_records", [1, 2, 7, 64, 1000])
def test_every_epoch_is_a_permutation(num_records):
    drawn = records(0, 3 * num_records, seed=5, num_records=num_records)
    for epoch in drawn.reshape(3, num_records):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(num_records))


def test_epochs_and_seeds_differ():
    drawn = records(0, 200, seed=5, num_records=100)
    assert (drawn[:100] != drawn[100:]).mean() > 0.9
    other = records(0, 100, seed=6, num_records=100)
    assert (drawn[:100] != other).mean() > 0.9
    assert (drawn[:100] != np.arange(100)).mean() > 0.9


def test_any_part_of_the_stream_can_be_had_alone():
    whole = records(0, 60, seed=2, num_records=11)
    for first in (0, 1, 10, 11, 37):
        np.testing.assert_array_equal(
            records(first, 20, seed=2, num_records=11), whole[first : first + 20]
        )


def test_far_positions_and_large_sets():
    count = 42_474_557
    drawn = records(10**12, 1000, seed=2**31 - 1, num_records=count)
    assert drawn.min() >= 0
    assert drawn.max() < count
    assert len(set(drawn.tolist())) > 990
    assert abs(drawn.mean() / count - 0.5) < 0.05


def test_the_order_inside_a_graph_is_the_same():
    positions = tf.range(40, dtype=tf.int64)
    graph = tf.function(lambda g: order.record_indices(g, seed=1, num_records=7))
    np.testing.assert_array_equal(
        graph(positions), records(0, 40, seed=1, num_records=7)
    )


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_hosts_share_the_rows_of_a_step(hosts):
    rows = [
        order.rows_of_step(
            tf.constant(5, tf.int64), batch_size=16, host=host, hosts=hosts
        ).numpy()
        for host in range(hosts)
    ]
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(80, 96))


@pytest.mark.parametrize(
    ("batch_size", "host", "hosts", "message"),
    [(10, 0, 4, "batch_size: got 10"), (8, 4, 4, "host: got 4"), (0, 0, 1, "batch")],
)
def test_uneven_shares_are_refused(batch_size, host, hosts, message):
    with pytest.raises(ValueError, match=message):
        order.rows_of_step(0, batch_size=batch_size, host=host, hosts=hosts)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        records(0, 1, seed=seed, num_records=3)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="num_records: got 0"):
        records(0, 1, seed=0, num_records=0)
