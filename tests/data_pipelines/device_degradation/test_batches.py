"""The degradation of a step: a function of the run's key and the stream's position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.configs import base
from qface_jax.data_pipelines.device_degradation.batches import degradation, positions
from qface_jax.sharded import parallel
from support.degrade_goldens import drawn
from support.device_degradation import off

ROWS = 16
KEY = jax.random.key(3)


def images(rows=ROWS):
    return jnp.asarray(np.stack([drawn()[0]] * rows))


def degrade(devices, step, *, recipe="resolution", beside=None, rows=ROWS, key=KEY):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    shard, group = parallel.shardings(mesh), base.get_config().degrade
    call = degradation(
        recipe,
        group[recipe],
        batch_size=rows,
        mesh=mesh,
        beside=None if beside is None else group[beside],
    )
    call = jax.jit(call, out_shardings=shard.rows)
    batch = jax.device_put(images(rows), shard.rows)
    return call(key, jnp.int32(step), batch)


def assert_the_same(got, expected):
    """But for sums in another order just where a fraction is cut off."""
    wrong = off(np.asarray(got), np.asarray(expected))
    assert wrong.max() <= 1 and (wrong > 0).mean() < 1e-4


@pytest.mark.parametrize(
    ("step", "batch_size"),
    [(0, 1), (7, 48), (2**20, 4096), (2**31 - 1, 2**20), (2**31 - 1, 2**20 - 1)],
)
def test_positions_have_64_digits(step, batch_size):
    upper, lower = np.asarray(positions(jnp.int32(step), batch_size)).T.astype(object)
    first = step * batch_size
    for row in {0, batch_size // 2, batch_size - 1}:
        assert (upper[row] << 32) + lower[row] == first + row


def test_positions_carry_within_a_batch():
    step, batch_size = 2**32 // 3000, 3000
    whole = np.asarray(positions(jnp.int32(step), batch_size)).astype(object)
    assert set(whole[:, 0]) == {0, 1}
    np.testing.assert_array_equal(
        (whole[:, 0] << 32) + whole[:, 1], step * batch_size + np.arange(batch_size)
    )


def test_the_number_of_devices_changes_nothing():
    one, eight = degrade(1, 5), degrade(8, 5)
    assert_the_same(one, eight)
    assert len(eight.sharding.device_set) == 8
    assert len({np.asarray(x).tobytes() for x in one}) > ROWS // 4


def test_draws_follow_the_position_whatever_the_batch_size():
    both = degrade(1, 3)
    halves = [degrade(1, step, rows=ROWS // 2) for step in (6, 7)]
    assert_the_same(both, np.concatenate(halves))


def test_other_steps_and_keys_draw_anew():
    first = np.asarray(degrade(1, 5))
    assert not np.array_equal(first, degrade(1, 6))
    assert not np.array_equal(first, degrade(1, 5, key=jax.random.key(4)))


def test_a_clean_view_beside():
    alone = degrade(1, 2)
    pair = np.asarray(degrade(1, 2, beside="clean"))
    assert pair.shape == (ROWS, 2, 112, 112, 3)
    assert_the_same(pair[:, 0], alone)
    mirrored = (pair[:, 1] == images()[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (pair[:, 1] == images()).all(axis=(1, 2, 3))
    assert (mirrored | kept).all() and 0 < mirrored.sum() < ROWS


@pytest.mark.slow  # compiles the longest recipe for eight devices
def test_no_picture_leaves_its_device():
    mesh = parallel.make_mesh(jax.devices()[:8])
    shard, group = parallel.shardings(mesh), base.get_config().degrade
    call = degradation("qgface", group.qgface, batch_size=ROWS, mesh=mesh)
    call = jax.jit(
        call,
        in_shardings=(shard.replicated, shard.replicated, shard.rows),
        out_shardings=shard.rows,
    )
    text = call.lower(KEY, jnp.int32(0), images()).compile().as_text()
    for name in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
        assert f" {name}(" not in text and f" {name}-start(" not in text
