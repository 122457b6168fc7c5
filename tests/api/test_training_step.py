"""`qface_jax.make_step`: the loop's own step in a loop of one's own."""

import contextlib

import numpy as np
import pytest

import qface_jax
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.errors import ConfigError
from qface_jax.sharded import parallel
from qface_jax.train.loop import train
from qface_jax.train.setup import build
from support.small_run import SMALL, assert_equal, final_state, small

STEPS = ("total_steps=3", "checkpoint.interval=3", "eval.sets=()")


def test_three_steps_are_those_of_the_loop(tmp_path):
    config = small(*STEPS)
    train(config, tmp_path / "run")
    source = training_source(config)
    state, step = qface_jax.make_step(config, classes=source.num_classes)
    batches = build(config, source, parallel.make_mesh()).batches(0, 3)
    with contextlib.closing(batches):
        for batch in batches:
            state, metrics = step(state, batch["images"], batch["labels"])
    assert np.isfinite(float(metrics["loss"]))
    assert_equal(state, final_state(config, tmp_path / "run"))
    faces = batch["images"][:3]
    ours = step.model(state).embed(faces)
    theirs = qface_jax.load(tmp_path / "run").embed(faces)
    np.testing.assert_array_equal(ours.features, theirs.features)


@pytest.fixture(scope="module")
def made():
    return qface_jax.make_step("demo", 12, overrides=SMALL)


def test_a_config_by_name(made):
    state, step = made
    assert int(state.step) == 0
    assert step.config == small()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((16, 112, 112, 3, np.float32), (16, np.int32), "expected uint8 .16, 112, 112"),
        ((8, 112, 112, 3, np.uint8), (8, np.int32), "data.batch_size of the config"),
        ((16, 112, 112, 3, np.uint8), (16, np.float32), "labels: got float32 .16., "),
        ((16, 112, 112, 3, np.uint8), (8, np.int32), "labels: got int32 .8., expected"),
    ],
)
def test_wrong_batches_are_explained(made, images, labels, message):
    state, step = made
    arrays = (np.zeros(shape, dtype) for *shape, dtype in (images, labels))
    with pytest.raises(ValueError, match=message):
        step(state, *arrays)


def test_labels_out_of_range_are_refused(made):
    state, step = made
    images = np.zeros((16, 112, 112, 3), np.uint8)
    with pytest.raises(
        ValueError, match=r"labels: got 0 to 15, must be within -1 .. 1"
    ):
        step(state, images, np.arange(16))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ConfigError, match="classes: got 0, must be at least 1"):
        qface_jax.make_step("demo", 0)
    with pytest.raises(ConfigError, match="unknown key"):
        qface_jax.make_step("demo", 12, overrides=["optim.rate=1"])
    words = ["epochs=1.0", "optim.warmup_steps=0"]
    with pytest.raises(ConfigError, match="this config counts in epochs"):
        qface_jax.make_step("demo", 12, overrides=words)
    words += [word for word in SMALL if not word.startswith("total_steps")]
    state, _ = qface_jax.make_step("demo", 12, overrides=words, images=160)
    assert int(state.step) == 0


def test_it_starts_from_a_run(model_run, capsys):
    words = [*SMALL, "model.backbone=init_from"]
    state, step = qface_jax.make_step(
        "demo", 5, overrides=words, init_from=str(model_run)
    )
    assert "12 classes there, 5 here" in capsys.readouterr().err
    images = np.zeros((2, 112, 112, 3), np.uint8)
    np.testing.assert_array_equal(
        step.model(state).embed(images).features,
        qface_jax.load(model_run).embed(images).features,
    )
    with pytest.raises(ConfigError, match="give --init-from=RUN"):
        qface_jax.make_step("demo", 5, overrides=words)
    words = [*SMALL, "classifier.centres=class_means"]
    with pytest.raises(ConfigError, match="for which the images of the training"):
        qface_jax.make_step("demo", 5, overrides=words, init_from=model_run)
