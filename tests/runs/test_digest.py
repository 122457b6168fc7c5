"""Digests of arrays, against a derivation element by element in Python's integers."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from qface_jax.runs import digest

TYPES = (
    np.bool_, np.int8, np.uint8, np.int16, np.float16, ml_dtypes.bfloat16, np.int32,
    np.uint32, np.float32,
)  # fmt: skip
SHAPES = ((), (1,), (0,), (3, 0, 2), (7,), (8, 16), (2, 3, 4, 5))
MASK = 2**32 - 1


def mixed(word):
    word ^= word >> 16
    word = word * 0x85EBCA6B & MASK
    word ^= word >> 13
    word = word * 0xC2B2AE35 & MASK
    return word ^ word >> 16


def derived(array):
    """The digest by its definition: one integer after the other."""
    width = min(array.itemsize, 4)
    data, lanes = np.ascontiguousarray(array).tobytes(), [0, 0]
    for place in range(len(data) // width):
        word = int.from_bytes(data[place * width : (place + 1) * width], "little")
        position = mixed(0) ^ place
        for lane, seed in enumerate((0x9E3779B9, 0x7F4A7C15)):
            key = mixed((position + seed) & MASK)
            lanes[lane] = (lanes[lane] + mixed(word ^ key)) & MASK
    return f"{lanes[0]:08x}{lanes[1]:08x}"


def drawn(dtype, shape, seed=0):
    """Any bits of that type, infinite numbers and those that are none among them."""
    source = np.random.default_rng(seed)
    if dtype is np.bool_:
        return source.random(shape) < 0.5
    size = np.dtype(dtype).itemsize
    count = int(np.prod(shape))
    raw = source.integers(0, 256, (count * size,), np.uint8)
    return raw.view(dtype).reshape(shape)


def of(array):
    return digest.of_arrays({"it": array})["it"]


def on_devices(array):
    lanes = digest.lanes_on_devices(array)
    return "".join(f"{int(lane):08x}" for lane in lanes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_host_and_device_follow_the_definition(dtype, shape):
    array = drawn(dtype, shape)
    want = derived(array)
    assert of(array) == want
    assert of(jnp.asarray(array)) == want
    assert on_devices(jnp.asarray(array)) == want


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_eight_bytes_are_two_words(dtype):
    array = drawn(dtype, (5, 3))
    assert of(array) == derived(array)
    assert of(array.astype(array.dtype.newbyteorder(">"))) == derived(array)
    with jax.enable_x64(True):
        assert on_devices(jnp.asarray(array)) == derived(array)


@pytest.mark.parametrize(
    "spec",
    [(), ("data",), (None, "data"), ("data", "model"), (("data", "model"), None)],
)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.bool_])
def test_however_an_array_is_cut(dtype, spec):
    array = drawn(dtype, (16, 64))
    mesh = jax.make_mesh(
        (4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    cut = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
    assert on_devices(cut) == derived(array)
    assert of(cut) == derived(array)
    one = jax.device_put(array, jax.devices()[3])
    assert on_devices(one) == derived(array)


def test_no_device_gathers_what_is_cut():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    cut = jax.device_put(
        np.zeros((1024, 64), np.float32), NamedSharding(mesh, PartitionSpec("data"))
    )
    text = digest.lanes_on_devices.lower(cut).compile().as_text()
    assert "all-reduce" in text
    assert "all-gather" not in text and "all-to-all" not in text


@pytest.mark.parametrize("dtype", TYPES)
def test_each_flipped_bit_is_seen(dtype):
    array = drawn(dtype, (3, 5), seed=1)
    whole, bits = of(array), np.dtype(dtype).itemsize * 8
    for place in range(array.size):
        for bit in range(bits if dtype is not np.bool_ else 1):
            flipped = array.copy()
            raw = flipped.reshape(-1).view(f"u{array.itemsize}")
            raw[place] ^= np.array(1 << bit, raw.dtype)
            assert of(flipped) != whole, (place, bit)


def test_places_and_signs_count():
    array = drawn(np.float32, (64, 4))
    assert of(array[::-1]) != of(array)
    assert of(array.T) != of(array)
    assert of(np.zeros(4, np.float32)) != of(np.zeros(5, np.float32))
    assert of(np.float32(-0.0)) != of(np.float32(0.0))


def test_blocks_of_the_host_are_one_array(monkeypatch):
    array = drawn(np.float32, (100, 7))
    want = derived(array)
    monkeypatch.setattr(digest, "_BLOCK", 33)
    assert of(array) == want


def test_more_elements_than_a_word_can_count(monkeypatch):
    """With words of 8 positions: host and devices split the index in the same way."""
    monkeypatch.setattr(digest, "_WORDS", 8)
    array = drawn(np.float32, (3, 5, 2, 4))
    assert digest._groups(array.shape) == [[(0, 1)], [(1, 1)], [(2, 4), (3, 1)]]
    host, device = digest.lanes_of(array), digest.lanes_on_devices.__wrapped__(array)
    np.testing.assert_array_equal(host, device)
    monkeypatch.undo()
    assert digest._groups((2**31, 2)) == [[(0, 2), (1, 1)]]
    assert digest._groups((2**31, 4)) == [[(0, 1)], [(1, 1)]]
    # 2^36 elements, traced only: no position may overflow.
    shape = jax.ShapeDtypeStruct((2**20, 2**16), jnp.float32)
    assert jax.eval_shape(digest.lanes_on_devices, shape).shape == (2,)


def test_a_type_without_digest_is_named():
    with pytest.raises(TypeError, match="array of complex64, expected bool"):
        of(np.zeros(3, np.complex64))
