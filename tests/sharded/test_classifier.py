"""The streamed, sharded classifier against the plain [b, c] form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.losses.margins.margin import build_margin
from qface_jax.objectives.classification import margin_loss, raw_norms, unit
from qface_jax.sharded import classifier, parallel
from qface_jax.tables import MARGINS
from support.closeness import assert_close_in_norm

B, C, D = 16, 37, 8
ROWS = 64  # of the centres: a multiple of every number of devices tested
SCALE = 64.0


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    features = jnp.asarray(rng.normal(size=(B, D)) * 10, jnp.float32)
    centres = jnp.asarray(rng.normal(size=(ROWS, D)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, C, B), jnp.int32)
    return features, centres, labels


def plain_loss(features, centres, labels, state, margin, classes=C):
    """Mean loss by way of all logits at once; the derivation to compare with."""
    w = centres[:classes] / jnp.linalg.norm(centres[:classes], axis=1, keepdims=True)
    cos = jnp.einsum("bd,cd->bc", unit(features), w)
    target = labels[:, None] == jnp.arange(classes)[None, :]
    cos_y = jnp.sum(jnp.where(target, cos, 0.0), axis=1)
    norms, valid = raw_norms(features), labels >= 0
    state = jax.lax.stop_gradient(margin.update(state, cos_y, norms, valid))
    own = margin.target(cos_y, norms, state)[:, None]
    logits = SCALE * jnp.where(target, own, margin.negative(cos, cos_y, state))
    own_logit = jnp.sum(jnp.where(target, logits, 0.0), axis=1)
    loss = jax.nn.logsumexp(logits, axis=1) - own_logit + margin.penalty(norms)
    return jnp.sum(jnp.where(valid, loss, 0.0)) / jnp.maximum(
        jnp.sum(valid, dtype=loss.dtype), 1.0
    )


def streamed(devices, chunk, margin, classes=C):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    spec = classifier.ClassifierSpec(margin.negative, SCALE, classes, chunk, mesh)

    def loss(features, centres, labels, state):
        value, _, _ = margin_loss(
            features, centres, labels, state, margin=margin, spec=spec
        )
        return value

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def assert_same(got, want, rtol=1e-5):
    np.testing.assert_allclose(got[0], want[0], rtol=rtol)
    assert_close_in_norm(got[1], want[1], rtol)


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize(("devices", "chunk"), [(1, 64), (1, 7), (2, 5), (8, 3)])
def test_equals_the_plain_form(name, devices, chunk):
    features, centres, labels = inputs()
    margin = build_margin(name)
    args = (features, centres, labels, margin.init())
    plain = jax.value_and_grad(partial(plain_loss, margin=margin), argnums=(0, 1))
    assert_same(streamed(devices, chunk, margin)(*args), plain(*args))


def test_one_two_and_eight_devices_agree():
    features, centres, labels = inputs(1)
    margin = build_margin("adaface")
    args = (features, centres, labels, margin.init())
    one = streamed(1, 8192, margin)(*args)
    for devices in (2, 8):
        assert_same(streamed(devices, 8192, margin)(*args), one)


def test_no_array_of_all_logits_is_compiled():
    rows, chunk, batch = 4096, 64, 8
    margin = build_margin("adaface")
    shapes = [
        jax.ShapeDtypeStruct((batch, D), jnp.float32),
        jax.ShapeDtypeStruct((rows, D), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
        jax.eval_shape(margin.init),
    ]
    text = streamed(1, chunk, margin, rows).lower(*shapes).compile().as_text()
    assert f"f32[{batch},{rows}]" not in text
    assert f"f32[{batch},{chunk}]" in text


def test_padding_rows_of_batch_and_classes_do_not_count():
    features, centres, labels = inputs(2)
    margin = build_margin("cosface")
    labels = labels.at[B // 2 :].set(-1)
    value, (dz, dw) = streamed(8, 5, margin)(features, centres, labels, ())
    want = plain_loss(features[: B // 2], centres, labels[: B // 2], (), margin)
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_array_equal(dz[B // 2 :], 0.0)
    np.testing.assert_array_equal(dw[C:], 0.0)


def test_a_batch_of_padding_only():
    features, centres, _ = inputs()
    labels = jnp.full((B,), -1, jnp.int32)
    margin = build_margin("adaface")
    value, grads = streamed(8, 5, margin)(features, centres, labels, margin.init())
    assert value == 0.0
    assert all(not np.any(g) for g in grads)


def test_one_class_has_no_loss():
    features, centres, _ = inputs()
    labels = jnp.zeros((B,), jnp.int32)
    value, grads = streamed(2, 64, build_margin("arcface"), 1)(
        features, centres, labels, ()
    )
    assert value == 0.0
    assert all(not np.any(g) for g in grads)


@pytest.mark.parametrize("name", MARGINS)
def test_edges_are_finite(name):
    """cos +1 and -1, a zero feature, a zero centre, one identity in the batch."""
    features, centres, _ = inputs()
    margin = build_margin(name)
    centres = centres.at[3].set(0.0)
    features = (
        features.at[0].set(0.0).at[1].set(5 * centres[2]).at[2].set(-5 * centres[2])
    )
    labels = jnp.full((B,), 2, jnp.int32).at[3].set(3)
    value, grads = streamed(8, 5, margin)(features, centres, labels, margin.init())
    assert jnp.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in grads)


def test_own_cosine_and_accuracy():
    features, centres, labels = inputs(3)
    features = features.at[: B // 2].set(centres[labels[: B // 2]])
    mesh = parallel.make_mesh(jax.devices()[:8])
    margin = build_margin("softmax")
    spec = classifier.ClassifierSpec(margin.negative, SCALE, C, 8, mesh)
    own_cosine = jax.jit(classifier.own_cosine, static_argnums=0)
    cos = own_cosine(spec, unit(features), centres, labels)
    w = centres[labels] / jnp.linalg.norm(centres[labels], axis=1, keepdims=True)
    np.testing.assert_allclose(cos, jnp.sum(unit(features) * w, axis=1), rtol=1e-5)
    _, _, metrics = jax.jit(partial(margin_loss, margin=margin, spec=spec))(
        features, centres, labels, ()
    )
    cosines = jnp.einsum(
        "bd,cd->bc",
        unit(features),
        centres[:C] / jnp.linalg.norm(centres[:C], axis=1, keepdims=True),
    )
    right = jnp.argmax(cosines, axis=1) == labels
    np.testing.assert_allclose(metrics["accuracy"], jnp.mean(right), rtol=1e-6)
    assert metrics["accuracy"] >= 0.5


def test_rows_that_cannot_be_cut_are_refused():
    features, centres, labels = inputs()
    margin = build_margin("softmax")
    mesh = parallel.make_mesh(jax.devices()[:8])
    spec = classifier.ClassifierSpec(margin.negative, SCALE, C, 8, mesh)
    with pytest.raises(ValueError, match="centres of 63 rows"):
        classifier.similarity(spec, unit(features), centres[:63], labels, ())
    with pytest.raises(ValueError, match="batch of 15 rows"):
        classifier.similarity(spec, unit(features)[:15], centres, labels[:15], ())


def test_padded_classes():
    assert classifier.padded_classes(1, 512) == 512
    assert classifier.padded_classes(512, 512) == 512
    assert classifier.padded_classes(513, 512) == 1024


def drawn_centres(devices, rows=1024, dim=64, blocks=16, **kwargs):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    draw = partial(
        classifier.init_centres, rows=rows, dim=dim, mesh=mesh, blocks=blocks, **kwargs
    )
    return jax.jit(draw, out_shardings=parallel.shardings(mesh).rows)


def test_first_centres_are_unit_directions_and_padding_is_zero():
    key = jax.random.key(3)
    centres = np.asarray(drawn_centres(8, num_classes=1000)(key), np.float64)
    np.testing.assert_allclose(np.linalg.norm(centres[:1000], axis=1), 1.0, rtol=1e-5)
    assert not centres[1000:].any()
    cosines = centres[:1000] @ centres[:1000].T - np.eye(1000)
    # No two blocks are drawn alike: random directions of 64 dimensions stay apart.
    assert np.abs(cosines).max() < 0.8
    assert abs(cosines.std() - 1 / 8) < 0.01


def test_first_centres_are_the_same_on_any_number_of_devices():
    key = jax.random.key(3)
    want = np.asarray(drawn_centres(1)(key))
    for devices in (2, 8):
        np.testing.assert_array_equal(drawn_centres(devices)(key), want)


def test_first_centres_take_little_more_than_their_own_memory():
    draw = drawn_centres(1, rows=1 << 18, dim=128, blocks=64)
    memory = draw.lower(jax.random.key(0)).compile().memory_analysis()
    assert memory.output_size_in_bytes == (1 << 18) * 128 * 4
    assert memory.temp_size_in_bytes < memory.output_size_in_bytes / 4


@pytest.mark.parametrize("name", ["arcface", "curricularface"])
@pytest.mark.parametrize(("devices", "chunk"), [(1, 64), (8, 3)])
def test_the_nearest_other_centre_whatever_the_margin(name, devices, chunk):
    features, centres, labels = inputs(6)
    labels = labels.at[0].set(-1)
    features = features.at[1].set(3 * centres[labels[1]])  # at its own centre
    features = features.at[2].set(-features[2])
    got = nearest_of(name, devices, chunk)(features, centres, labels)
    z = np.float64(features) / np.linalg.norm(features, axis=1)[:, None]
    w = np.float64(centres[:C]) / np.linalg.norm(centres[:C], axis=1)[:, None]
    cos = z @ w.T
    own = np.arange(C)[None] == np.asarray(labels)[:, None]
    want = np.where(own, -np.inf, cos).max(axis=1)
    np.testing.assert_allclose(got, want, atol=1e-6)


def nearest_of(name, devices, chunk, classes=C):
    margin = build_margin(name)
    mesh = parallel.make_mesh(jax.devices()[:devices])
    spec = classifier.ClassifierSpec(margin.negative, SCALE, classes, chunk, mesh)

    def nearest(features, centres, labels):
        state, z = margin.init(), unit(features)
        return classifier.similarity(spec, z, centres, labels, state).nearest

    return jax.jit(nearest)


def test_without_another_class_the_nearest_is_as_far_as_can_be():
    features, centres, labels = inputs(7)
    got = nearest_of("arcface", 2, 5, classes=1)(features, centres, 0 * labels)
    np.testing.assert_array_equal(got, -1.0)


def test_rows_are_added_to_the_class_that_they_belong_to():
    features, centres, labels = inputs(8)
    labels = labels.at[3].set(-1)
    want = np.float64(centres)
    for row, label in zip(np.float64(features), np.asarray(labels), strict=True):
        want[label] += row if label >= 0 else 0.0
    for devices in (1, 8):
        mesh = parallel.make_mesh(jax.devices()[:devices])
        add = jax.jit(partial(classifier.add_rows, mesh))
        np.testing.assert_allclose(add(centres, features, labels), want, rtol=1e-5)
