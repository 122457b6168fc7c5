"""Class centres stored in bfloat16: rounding, loss, gradient, update, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from qface_jax.errors import ConfigError
from qface_jax.losses.margins.margin import build_margin
from qface_jax.objectives.classification import margin_loss
from qface_jax.sharded import class_sample, classifier, parallel
from qface_jax.sharded.bfloat16_rows import counted_bits, round_to_bfloat16
from qface_jax.train.update import global_norm, update
from support.closeness import assert_close_in_norm
from support.small_run import small
from support.small_step import LINEAR, momentum, step_of

ADAFACE = build_margin("adaface")


def bits(rows, columns, seed=0):
    return counted_bits(jax.random.key(seed), jnp.arange(rows), columns)


@pytest.mark.parametrize("value", [1.001, -1.001, 0.3, -7.77e-20, 3e30, 1.0 + 2**-10])
def test_rounding_is_right_on_average(value):
    x = jnp.full((4096, 64), value, jnp.float32)
    got = np.asarray(round_to_bfloat16(x, bits(*x.shape)), np.float64)
    below, above = np.unique(got)
    assert below < np.float64(x[0, 0]) < above
    # The share rounded up is binomial: five standard deviations of its mean.
    share = (np.float64(x[0, 0]) - below) / (above - below)
    bound = 5 * np.sqrt(share * (1 - share) / x.size)
    assert abs((got.mean() - below) / (above - below) - share) < bound
    # No row and no column has chance of its own.
    for axis, count in ((0, 4096), (1, 64)):
        means = ((got == above).mean(axis) - share) / np.sqrt(
            share * (1 - share) / count
        )
        assert np.abs(means).max() < 6
        assert 0.7 < means.std() < 1.3


def test_what_bfloat16_holds_stays():
    values = np.array([0.0, -0.0, 1.0, -2.5, 3.38e38, np.inf, -np.inf, 1e-40, 9.2e-41])
    exact = jnp.asarray(values, jnp.bfloat16)
    words = jnp.tile(exact.astype(jnp.float32)[:, None], (1, 500))
    got = round_to_bfloat16(words, bits(*words.shape))
    same = jnp.tile(exact[:, None], (1, 500))
    np.testing.assert_array_equal(
        jax.lax.bitcast_convert_type(got, jnp.uint16),
        jax.lax.bitcast_convert_type(same, jnp.uint16),
    )


@pytest.mark.parametrize("word", [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC00000])
def test_a_nan_stays_one(word):
    x = jax.lax.bitcast_convert_type(jnp.full((8, 64), word, jnp.uint32), jnp.float32)
    assert np.isnan(np.asarray(round_to_bfloat16(x, bits(8, 64)), np.float32)).all()


def test_the_bits_are_a_function_of_key_class_and_column():
    whole = np.asarray(bits(300, 20))
    classes = np.random.default_rng(0).permutation(300)[:77]
    some = counted_bits(jax.random.key(0), jnp.asarray(classes), 20)
    np.testing.assert_array_equal(some, whole[classes])
    np.testing.assert_array_equal(bits(300, 7), whole[:, :7])
    assert (np.asarray(bits(300, 20, seed=1)) == whole).mean() < 0.001
    assert len(np.unique(whole)) > 5990  # of 6,000


def loss_and_gradient(centres, devices, chunk=7):
    rng = np.random.default_rng(5)
    features = jnp.asarray(rng.normal(size=(16, 8)) * 5, jnp.float32)
    labels = jnp.asarray(rng.integers(0, 60, 16), jnp.int32).at[3].set(-1)
    mesh = parallel.make_mesh(jax.devices()[:devices])
    spec = classifier.ClassifierSpec(ADAFACE.negative, 64.0, 60, chunk, mesh)

    def loss(features, centres):
        return margin_loss(
            features, centres, labels, ADAFACE.init(), margin=ADAFACE, spec=spec
        )[0]

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(features, centres)


@pytest.mark.parametrize("devices", [1, 8])
def test_loss_and_gradient_are_those_of_the_widened_centres(devices):
    narrow = jax.random.normal(jax.random.key(1), (64, 8), jnp.bfloat16)
    value, (dz, dw) = loss_and_gradient(narrow, devices)
    want, (want_dz, want_dw) = loss_and_gradient(narrow.astype(jnp.float32), devices)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert_close_in_norm(dz, want_dz, 1e-5)
    assert dw.dtype == jnp.bfloat16
    np.testing.assert_array_equal(dw, want_dw.astype(jnp.bfloat16))


def sgd_update(params, grads, trace, *, key=0, sample=None, rate=0.1):
    tx = optax.chain(optax.trace(decay=0.9), optax.scale(-rate))
    state = (optax.TraceState(trace=trace), optax.ScaleState())
    return update(
        tx, grads, state, params, key=jax.random.key(key), sample=sample
    )  # fmt: skip


def leaf(values):
    return {"head": {"centres": values}}


def drawn(number, shape):
    return jax.random.normal(jax.random.key(number), shape, jnp.bfloat16)


def test_every_layout_rounds_a_class_the_same_way():
    """One device, eight devices, and a sample that holds some classes, bit for bit."""
    shape = (64, 16)
    arrays = [drawn(number, shape) for number in range(3)]
    step = jax.jit(lambda p, g, t: sgd_update(leaf(p), leaf(g), leaf(t)))
    one = step(*arrays)
    mesh = parallel.make_mesh(jax.devices()[:8])
    spread = jax.device_put(arrays, NamedSharding(mesh, P(parallel.DATA)))
    eight = step(*spread)
    classes = jnp.asarray([5, 63, 0, -1, 17])
    sample = class_sample.ClassSample(classes, classes, classes[None])
    few = jax.jit(lambda p, g, t: sgd_update(leaf(p), leaf(g), leaf(t), sample=sample))(
        *(array[classes] for array in arrays)
    )
    for a, b, c in zip(*map(jax.tree.leaves, (one, eight, few)), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[classes][:3], c[:3])
    # Centres and momentum have chance of their own.
    (first,), (second,) = (jax.tree.leaves(tree) for tree in (one[0], one[1]))
    assert np.any(np.asarray(first) != np.asarray(second))


def test_the_update_is_float32_and_within_one_rounding():
    params, grads, trace = (drawn(number, (64, 16)) for number in range(3))
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (params, grads, trace))
    got = sgd_update(leaf(params), leaf(grads), leaf(trace))
    want = sgd_update(*map(leaf, wide))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, b.dtype) == (jnp.bfloat16, jnp.float32)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        # Neighbours in bfloat16 are at most 2^-7 of the value apart.
        assert np.all(np.abs(a - b) <= 2**-7 * np.abs(b))
    np.testing.assert_allclose(
        global_norm(leaf(grads)), np.linalg.norm(wide[1]), rtol=1e-6
    )


def test_updates_below_the_last_digit_are_kept():
    """Rounding to nearest would never leave 1; on average nothing may be lost."""
    steps, move = 200, 2.0**-12
    start = jnp.ones((256, 64), jnp.bfloat16)
    assert (start.astype(jnp.float32) - move).astype(jnp.bfloat16)[0, 0] == 1.0
    tx = optax.sgd(move)

    def step(number, centres):
        grads = jnp.ones_like(centres)
        key = jax.random.fold_in(jax.random.key(3), number)
        state = tx.init(leaf(centres))
        new, _ = update(tx, leaf(grads), state, leaf(centres), key=key, sample=None)
        return new["head"]["centres"]

    end = jax.jit(lambda x: jax.lax.fori_loop(0, steps, step, x))(start)
    moved = 1.0 - np.asarray(end, np.float64)
    # Below 1 a digit is 2^-8, so the sum of a walk's roundings deviates by at most
    # sqrt(steps move 2^-8); five of those, over 16,384 walks.
    deviation = np.sqrt(steps * move * 2**-8 / moved.size)
    assert abs(moved.mean() - steps * move) < 5 * deviation


def step_memory(dtype, rows, devices):
    config = small(
        f"classifier.dtype={dtype}",
        "classifier.chunk=1024",
        "model.embedding_dim=16",
    )
    step, first, batch, key = step_of(config, LINEAR, rows, devices)
    compiled = jax.jit(step, donate_argnums=0).lower(first, batch, key).compile()
    return compiled.memory_analysis(), compiled.as_text()


def test_no_float32_copy_of_all_centres_in_the_loss():
    rows, columns = 65536, 128
    mesh = parallel.make_mesh(jax.devices()[:1])
    spec = classifier.ClassifierSpec(ADAFACE.negative, 64.0, rows, 1024, mesh)

    def loss(features, centres, labels):
        return margin_loss(
            features, centres, labels, ADAFACE.init(), margin=ADAFACE, spec=spec
        )[0]

    shapes = (
        jax.ShapeDtypeStruct((16, columns), jnp.float32),
        jax.ShapeDtypeStruct((rows, columns), jnp.bfloat16),
        jax.ShapeDtypeStruct((16,), jnp.int32),
    )
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile()
    # The CPU backend keeps the same bits once more as integers: 2 bytes each. A
    # float32 copy would be 4.
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 3 * rows * columns, temporary


def test_the_whole_step_needs_less_memory():
    rows = 65536
    with jax.numpy_dtype_promotion("standard"):
        (narrow, text), (wide, _) = (
            step_memory(dtype, rows, 1) for dtype in ("bfloat16", "float32")
        )
    centres = rows * 16
    # Centres and momentum at 2 bytes instead of 4 each.
    saved = wide.argument_size_in_bytes - narrow.argument_size_in_bytes
    assert 0 <= 4 * centres - saved < 64  # the key is an argument only where it rounds
    assert narrow.temp_size_in_bytes <= wide.temp_size_in_bytes + centres // 4
    entry = text[text.index("ENTRY ") :]
    assert f"= bf16[{rows},16]" in entry
    assert f"= f32[{rows},16]" not in entry


@pytest.mark.parametrize("devices", [1, 8])
def test_training_moves_centres_and_keeps_their_type(devices):
    config = small(
        "classifier.dtype=bfloat16", "classifier.pad_to=16", "optim.weight_decay=0.1"
    )
    with jax.numpy_dtype_promotion("standard"):
        step, first, rows, key = step_of(config, LINEAR, 50, devices)
        after, _ = step(first, rows, key)
        after, metrics = step(after, rows, key)
    old, new = first.params["head"]["centres"], after.params["head"]["centres"]
    assert new.dtype == jnp.bfloat16
    assert momentum(after)["head"]["centres"].dtype == jnp.bfloat16
    assert np.isfinite(metrics["grad_norm"])
    changed = np.any(np.asarray(old) != np.asarray(new), axis=1)
    assert changed[:50].all()
    assert not changed[50:].any()  # padding


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad"])
def test_other_optimizers_are_refused(name):
    with pytest.raises(ConfigError, match=f"bfloat16 with optim.name {name}"):
        small("classifier.dtype=bfloat16", f"optim.name={name}")
    with pytest.raises(ConfigError, match=r"classifier\.dtype: got 'float16', must be"):
        small("classifier.dtype=float16")


def test_both_ways_to_put_rows_back_do_the_same():
    """Accelerators write bfloat16 in place, the CPU writes words."""
    rng = np.random.default_rng(0)
    array = jnp.asarray(rng.normal(size=(20, 4)), jnp.bfloat16)
    values = jnp.asarray(rng.normal(size=(5, 4)), jnp.bfloat16)
    rows = jnp.array([3, 0, 20, 19, 20])  # 20: behind the end
    plain, words = (
        jax.jit(put)(array, rows, values)
        for put in (class_sample.put_plain, class_sample.put_words)
    )
    np.testing.assert_array_equal(plain.astype(jnp.float32), words.astype(jnp.float32))
    assert not np.array_equal(plain.astype(jnp.float32), array.astype(jnp.float32))
