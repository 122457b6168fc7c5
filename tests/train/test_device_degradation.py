"""`degrade.on` device: the step degrades, and the loss sees what `Setup.seen` shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.api.training_step import make_step
from qface_jax.data_pipelines.sources import training as sources
from qface_jax.errors import ConfigError
from qface_jax.evals import npz_file
from qface_jax.losses import brisque
from qface_jax.planning import plan
from qface_jax.sharded import parallel
from qface_jax.tables import RECIPES
from qface_jax.train import loop
from qface_jax.train.setup import build, fresh_state
from support.closeness import assert_close_in_norm
from support.power_cut import train_until_cut
from support.small_run import assert_equal, final_state, small
from support.small_step import LINEAR

DEVICE = "degrade.on=device"
# Compiled in a second; every picture is changed.
RESOLUTION = ("degrade.recipe=resolution", "degrade.resolution.probability=1.0")
OBJECTIVES = {
    "classification": ("degrade.recipe=adaface",),
    "qgface": ("objective=qgface", "degrade.recipe=qgface", "log.pictures=True"),
    "one view": (
        "objective=qgface",
        "qgface.views=1",
        "qgface.queue=none",
        "degrade.recipe=adaface",
    ),
    "siamese": ("objective=siamese", "degrade.recipe=resolution"),
    "octuplet": ("objective=octuplet", "degrade.recipe=octuplet", "log.pictures=True"),
    "recognizability": (
        "objective=recognizability",
        "degrade.recipe=recognizability",
        "recognizability.probe_images=2",
        "recognizability.ui_images=8",
    ),
}


def parts(*changes, devices=2, model=LINEAR):
    config = small(*RESOLUTION, "optim.learning_rate=0.01", *changes)
    mesh = parallel.make_mesh(jax.devices()[:devices])
    return build(config, sources.training_source(config), mesh, model=model)


def three_steps(setup, see=lambda step, rows: rows):
    state, losses = fresh_state(setup), []
    key = parallel.replicate(setup.train_key, setup.shard)
    for step, rows in enumerate(setup.batches(0, 3)):
        batch = parallel.to_device(see(step, rows), setup.shard.rows)
        state, metrics = setup.step_fn(state, batch, key)
        losses.append(float(metrics["loss"]))
    return losses, jax.tree.map(np.asarray, state.params)


def test_the_loss_sees_what_is_shown():
    """A step that degrades is the step after the same degradation, in parts too."""
    on_device, on_host = parts(DEVICE), parts()
    got = three_steps(on_device)
    want = three_steps(on_host._replace(batches=on_device.batches), on_device.seen)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    assert_close_in_norm(got[1], want[1], 1e-6, floor=0.1)
    other = three_steps(on_host)
    assert not np.allclose(got[0], other[0], rtol=1e-6)
    in_parts = three_steps(parts(DEVICE, "optim.accumulation_steps=2"))
    np.testing.assert_allclose(in_parts[0], got[0], rtol=1e-5)


def test_one_device_and_eight_take_the_same_steps():
    one, eight = (three_steps(parts(DEVICE, devices=count)) for count in (1, 8))
    np.testing.assert_allclose(one[0], eight[0], rtol=1e-5)


def test_hosts_only_decode():
    setup = parts(DEVICE)
    (rows,) = setup.batches(1, 2)
    config = small("degrade.recipe=clean", "degrade.clean.flip_probability=0.0")
    plain = build(config, sources.training_source(config), setup.mesh, model=LINEAR)
    (decoded,) = plain.batches(1, 2)
    np.testing.assert_array_equal(rows["images"], decoded["images"])
    (seen,) = setup.seen_batches(1, 2)
    assert (seen["images"] != rows["images"]).any(axis=(1, 2, 3)).all()
    assert plain.seen(1, decoded) is decoded


@pytest.mark.parametrize("objective", ["octuplet", "siamese", "one view"])
def test_a_batch_has_the_layout_that_the_objective_takes(objective):
    config = small(*OBJECTIVES[objective], "log.pictures=False", DEVICE)
    mesh = parallel.make_mesh(jax.devices()[:2])
    setup = build(config, sources.training_source(config), mesh, model=LINEAR)
    (rows,) = setup.batches(0, 1)
    assert rows["images"].shape == (16, 112, 112, 3)
    seen = jax.eval_shape(
        setup.degrade, setup.train_key, jnp.int32(0), jnp.asarray(rows["images"])
    )
    assert seen.dtype == jnp.uint8 and seen.shape == (16, 2, 112, 112, 3)


@pytest.mark.slow
def test_a_step_of_ones_own_takes_pictures_as_they_were_decoded():
    config = small(*OBJECTIVES["octuplet"], "log.pictures=False", DEVICE)
    setup = build(config, sources.training_source(config), parallel.make_mesh())
    (rows,) = setup.batches(0, 1)
    state, step = make_step(config, classes=12)
    assert step(state, rows["images"], rows["labels"])[1]["loss"] > 0


def test_stopped_and_resumed_is_bit_for_bit_the_same(tmp_path):
    config = small(*RESOLUTION, DEVICE, "eval.sets=()")
    loop.train(config, tmp_path / "whole")
    train_until_cut(config, tmp_path / "cut")
    loop.train(config, tmp_path / "cut")
    assert_equal(
        final_state(config, tmp_path / "cut"), final_state(config, tmp_path / "whole")
    )


@pytest.mark.slow
def test_the_quality_sample_is_of_the_degraded_pictures(tmp_path):
    config = small(*RESOLUTION, DEVICE, "log.quality_images=16", "eval.sets=()")
    loop.train(config, tmp_path / "run")
    measured = npz_file.read(tmp_path / "run" / "quality" / "step_000000000.npz")
    setup = loop.build(config, sources.training_source(config), parallel.make_mesh())
    (seen,) = setup.seen_batches(0, 1)
    want = brisque.quality(jnp.asarray(seen["images"]))
    np.testing.assert_allclose(measured["quality"], want, atol=2e-3)


@pytest.mark.slow  # compiles each degradation with its objective
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains(name, tmp_path):
    config = small(*OBJECTIVES[name], DEVICE, "total_steps=3", "eval.sets=()")
    loop.train(config, tmp_path / "run")
    state = final_state(config, tmp_path / "run")
    assert state.step == 3 and state.bad_step == -1
    if config.log.pictures:
        sheet = tmp_path / "run" / "samples" / "train_batch.png"
        assert sheet.stat().st_size > 1000


@pytest.mark.slow
def test_a_plan_counts_the_degradation():
    mesh = parallel.make_mesh(jax.devices()[:2])
    plans = [
        plan.plan(small(*OBJECTIVES["octuplet"], on), mesh, num_classes=12, images=48)
        for on in ("degrade.on=host", DEVICE)
    ]
    host, device = plans
    assert device.step.work > host.step.work
    # A batch that is given holds one view of each picture, not two.
    assert device.items["batch"] < 0.6 * host.items["batch"]
    assert device.class_side == host.class_side


def test_a_recipe_without_a_form_for_the_device_is_refused():
    with pytest.raises(ConfigError) as error:
        small("degrade.recipe=unrecognizable", DEVICE)
    assert (
        "degrade.on: got device with degrade.recipe unrecognizable, which has no form "
        "for the device; clean, adaface, resolution, qgface, octuplet, recognizability "
        "have one; or set degrade.on=host"
    ) in str(error.value)
    assert RECIPES["unrecognizable"].draw_on_device is None
    with pytest.raises(ConfigError, match=r"degrade\.on: got 'tpu', must be host or"):
        small("degrade.on=tpu")
