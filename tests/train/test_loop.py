"""Whole small runs: what they leave, resume, divergence, signals, devices."""

import dataclasses
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.runs.checkpoint import Checkpoints, saved_steps
from qface_jax.sharded import parallel
from qface_jax.tables import MARGINS
from qface_jax.train import loop
from qface_jax.train.evaluation import Evaluation
from qface_jax.train.interrupt import Interrupted
from qface_jax.train.monitor import TrainingDivergedError
from qface_jax.train.setup import build, fresh_state
from support.closeness import assert_close_in_norm
from support.power_cut import train_until_cut
from support.small_run import assert_equal, final_state, small
from support.small_step import LINEAR


def test_a_run_leaves_everything_a_user_expects(whole_run):
    run, _, results = whole_run
    assert saved_steps(run) == {"last": 6, "best": 6}
    facts = json.loads((run / "config.json").read_text())
    assert facts["num_classes"] == 12
    assert facts["color_order"] == "RGB"
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["config"]["model"]["backbone"] == "tiny"
    for picture in ("train_batch", "evaluation", "gst"):
        assert (run / "samples" / f"{picture}.png").stat().st_size > 1000
    assert (run / "eval" / "synthetic.json").is_file()
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "loss" in x] == [1, 2, 3, 4, 6]
    assert all(np.isfinite(x["loss"]) for x in lines if "loss" in x)
    assert {"images_per_second", "data_wait_share", "learning_rate", "norm_ema_mean",
            "accuracy", "grad_norm"} <= set(lines[-2])  # fmt: skip
    assert "synthetic/mean_cross" in lines[-1]
    assert results[0].series[0].labels == ["112 px", "14 px"]


def test_stopped_and_resumed_is_bit_for_bit_the_same(whole_run, tmp_path):
    run, config, _ = whole_run
    train_until_cut(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run")["last"] == 3
    loop.train(config, tmp_path / "run")
    assert_equal(final_state(config, tmp_path / "run"), final_state(config, run))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(x)["step"] for x in lines if "loss" in json.loads(x)]
    assert steps == [1, 2, 3, 4, 6]


def test_a_finished_run_is_only_evaluated_again(whole_run, tmp_path):
    run, config, results = whole_run
    shutil.copytree(run, tmp_path / "run")
    again = loop.train(config, tmp_path / "run")
    assert again[0].scalars == results[0].scalars
    assert saved_steps(tmp_path / "run")["last"] == 6


@pytest.mark.parametrize("where", ["between", "at the end"])
def test_a_signal_during_evaluation_saves_and_stops(where, tmp_path, monkeypatch):
    interval = 2 if where == "between" else 0
    config = small(f"eval.interval={interval}", "checkpoint.interval=100")
    run = Evaluation.run

    def interrupt_at_first_batch(self, embedder, **named):
        def forward(images):
            signal.raise_signal(signal.SIGTERM)
            return embedder.forward(images)

        return run(self, dataclasses.replace(embedder, forward=forward), **named)

    monkeypatch.setattr(Evaluation, "run", interrupt_at_first_batch)
    with pytest.raises(Interrupted) as stop:
        loop.train(config, tmp_path / "run")
    step = 2 if where == "between" else 6
    assert (stop.value.signal_number, stop.value.step) == (signal.SIGTERM, step)
    assert saved_steps(tmp_path / "run") == {"last": step, "best": None}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = small("optim.learning_rate=2e9", "total_steps=9")
    with pytest.raises(TrainingDivergedError) as error:
        loop.train(config, tmp_path / "run")
    assert "is not finite" in str(error.value)
    assert "last good checkpoint" in str(error.value)
    last = saved_steps(tmp_path / "run")["last"]
    if last is not None:
        state = final_state(config, tmp_path / "run")
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params))


def random_batch(setup, seed=0):
    rng = np.random.default_rng(seed)
    rows = {
        "images": rng.integers(0, 256, (16, 112, 112, 3), np.uint8),
        "labels": rng.integers(0, 12, 16).astype(np.int32),
    }
    return parallel.to_device(rows, setup.shard.rows)


@pytest.mark.parametrize("margin", sorted(set(MARGINS) - {"adaface"}))
def test_every_margin_steps_and_its_state_is_saved(margin, tmp_path):
    config = small(f"loss.margin={margin}")
    # Margins see features alone: backbone and mesh are those that compile fastest.
    mesh = parallel.make_mesh(jax.devices()[:1])
    setup = build(config, sources.training_source(config), mesh, model=LINEAR)
    state, metrics = setup.step_fn(
        fresh_state(setup), random_batch(setup), setup.train_key
    )
    assert np.isfinite(metrics["loss"])
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert_equal(checkpoints.restore_latest(setup.abstract), state)


def test_one_device_and_eight_take_the_same_steps():
    """The whole step, batch norm and statistics included, on both meshes."""
    config = small()
    source = sources.training_source(config)
    losses, states = {}, {}
    for devices in (1, 8):
        setup = build(config, source, parallel.make_mesh(jax.devices()[:devices]))
        state, losses[devices] = fresh_state(setup), []
        for step in range(2):
            batch = random_batch(setup, step)
            state, metrics = setup.step_fn(state, batch, setup.train_key)
            losses[devices].append(float(metrics["loss"]))
        states[devices] = state.params
        assert setup.step_fn._cache_size() == 1
    np.testing.assert_allclose(losses[1], losses[8], rtol=1e-5)
    assert_close_in_norm(states[8], states[1], 1e-4, floor=0.01)
