"""A batch in parts: the step of the whole batch, with less memory."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax import models
from qface_jax.errors import ConfigError
from qface_jax.objectives import build
from qface_jax.planning import plan
from qface_jax.settings import config_rules
from qface_jax.sharded import parallel
from qface_jax.train import setup
from qface_jax.train.accumulation import in_parts, join_rows, split_rows
from support.closeness import assert_close_in_norm
from support.small_run import small
from support.small_step import LINEAR, loss_of, momentum, step_of

B, CLASSES = 32, 50


def two_steps(config, model, devices, parts):
    step, now, rows, key = step_of(config, model, CLASSES, devices, parts=parts)
    losses = []
    for _ in range(2):
        now, metrics = step(now, rows, key)
        losses.append(metrics)
    assert step._cache_size() == 1
    return jax.tree.map(np.asarray, (losses, now))


# The norm of each leaf counts as 0.1 where all of it is rounding.
assert_close = partial(assert_close_in_norm, floor=0.1)


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_parts_change_nothing_where_images_do_not_meet(rate):
    """Loss, gradient, momentum, margin state and draw are those of the whole batch."""
    config = small(
        f"classifier.sample_rate={rate}",
        "classifier.pad_to=16",
        "optim.learning_rate=0.01",
    )
    assert config.loss.margin == "adaface"
    whole = two_steps(config, LINEAR, 2, 1)
    assert np.any(whole[1].params["head"]["centres"])
    for parts in (2, 4):
        assert_close(two_steps(config, LINEAR, 2, parts), whole, 2e-6)


def test_the_mean_is_over_the_rows_that_have_a_label():
    """A mean of the parts' means would weigh their rows differently."""
    step, now, rows, key = step_of(
        small("loss.margin=arcface"), LINEAR, CLASSES, 1, parts=4
    )
    alone = dict(rows)
    alone["images"] = jnp.where(
        (rows["labels"] >= 0)[:, None, None, None], rows["images"], jnp.uint8(7)
    )
    got, other = step(now, rows, key), step(now, alone, key)
    assert_close(got[0].params, other[0].params, 1e-6)
    np.testing.assert_allclose(got[1]["loss"], other[1]["loss"], rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_part_i_has_the_rows_that_are_i_modulo_the_parts(devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    rows = jnp.arange(B * 3).reshape(B, 3)
    cut = jax.jit(lambda x: split_rows(x, 4, mesh))(rows)
    for part in range(4):
        np.testing.assert_array_equal(cut[part], rows[part::4])
    np.testing.assert_array_equal(jax.jit(lambda x: join_rows(x, mesh))(cut), rows)
    with pytest.raises(ValueError, match="batch of 33 rows cannot be cut into 4 parts"):
        split_rows(jnp.zeros((33, 2)), 4, mesh)


def by_hand(config, model, parts, first, rows, key):
    """Loss, backbone gradient and statistics: a Python loop over the parts."""
    objective = build(config, CLASSES, parallel.make_mesh(jax.devices()[:1]))
    dropout_key = jax.random.split(jax.random.fold_in(key, 0))[0]

    def loss(params):
        stats, features = first.stats, [None] * B
        for part in range(parts):
            mine, stats = model.apply(
                params,
                stats,
                models.to_float(rows["images"][part::parts]),
                train=True,
                key=jax.random.fold_in(dropout_key, part),
            )
            features[part::parts] = list(mine)
        value, _ = loss_of(
            objective,
            jnp.stack(features),
            first.params["head"],
            rows["labels"],
            first.kept,
        )
        return value, stats

    (value, stats), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        first.params["backbone"]
    )
    return value, stats, grads


def test_batch_norm_and_dropout_are_those_of_each_part_in_order():
    config = small("model.dropout=0.4", "optim.weight_decay=0")
    model, parts = models.build(config.model), 4
    step, first, rows, key = step_of(config, model, CLASSES, 1, parts=parts)
    after, metrics = step(first, rows, key)
    value, stats, grads = by_hand(config, model, parts, first, rows, key)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    assert_close(after.stats, stats, 1e-5)
    # The first step's momentum is the gradient.
    assert_close(momentum(after)["backbone"], grads, 1e-4)


@pytest.mark.slow  # which rows a part has is tested above
def test_every_number_of_devices_has_the_same_parts():
    config = small("classifier.pad_to=16", "optim.learning_rate=0.01")
    model = models.build(config.model)
    one, eight = (two_steps(config, model, devices, 2) for devices in (1, 8))
    assert_close(eight, one, 1e-4)
    np.testing.assert_allclose(eight[0][0]["loss"], one[0][0]["loss"], rtol=1e-5)


def collectives(text):
    """(operation, shape) of each collective of a compiled program."""
    found = re.findall(
        r"= \(?(\w+\[[\d,]*\]).*? (all-gather|all-to-all|collective-permute|"
        r"all-reduce|reduce-scatter)(?:-start)?\(",
        text,
    )
    return {(operation, shape) for shape, operation in found}


def test_no_image_or_feature_leaves_its_device():
    config = small("classifier.pad_to=16")
    model = models.build(config.model)
    texts = []
    for parts in (1, 2):
        step, first, rows, key = step_of(
            config, model, CLASSES, 8, parts=parts, shapes_only=True
        )
        texts.append(step.lower(first, rows, key).compile().as_text())
    whole, cut = map(collectives, texts)
    moved = ("all-gather", "all-to-all", "collective-permute")
    assert ("all-gather", "f32[32,16]") in whole  # the classifier's own
    assert {c for c in cut if c[0] in moved} <= {c for c in whole if c[0] in moved}
    assert not any(shape.startswith("u8") for _, shape in cut)


def test_one_part_is_the_step_as_it_was():
    def forward(params, stats, images, key):
        return images, stats

    mesh = parallel.make_mesh(jax.devices()[:1])
    assert in_parts(forward, 1, mesh) is forward


def test_memory_falls():
    config = small("model.backbone=mini", "classifier.pad_to=16")
    model, sizes = models.build(config.model), {}
    for parts in (1, 4):
        step, first, _, key = step_of(
            config, model, CLASSES, 1, parts=parts, shapes_only=True
        )
        rows = {
            "images": jax.ShapeDtypeStruct((64, 112, 112, 3), jnp.uint8),
            "labels": jax.ShapeDtypeStruct((64,), jnp.int32),
        }
        memory = step.lower(first, rows, key).compile().memory_analysis()
        sizes[parts] = memory.temp_size_in_bytes
    # Beside a quarter of the activations there are the gradient and a second forward.
    assert sizes[4] < 0.4 * sizes[1], sizes


def test_a_batch_that_leaves_a_remainder_is_refused():
    config = small("data.batch_size=48", "optim.accumulation_steps=4")
    sizes = config_rules.TRAINING_SIZES
    (problem,) = config_rules.device_problems(config, sizes, 8, 1)
    assert problem == (
        "data.batch_size: got 48, must be a multiple of 32: 8 devices x "
        "optim.accumulation_steps 4"
    )
    assert config_rules.device_problems(config, sizes, 4, 1) == []
    with pytest.raises(ConfigError, match=r"optim\.accumulation_steps 4"):
        setup.build(config, plan.Counts(CLASSES, 100), parallel.make_mesh())
    with pytest.raises(ConfigError, match=r"accumulation_steps: got 0, must be > 0"):
        small("optim.accumulation_steps=0")
    config = small("data.batch_size=16", "optim.accumulation_steps=16")
    (problem,) = config_rules.device_problems(config, sizes, 1, 1)
    assert "must be at least 32: batch norm needs 2 images" in problem
