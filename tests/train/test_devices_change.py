"""A run goes on with another number of devices than it was started with."""

import json

import jax
import numpy as np
import pytest

from qface_jax.runs.checkpoint import Checkpoints, load_parts
from qface_jax.sharded import parallel
from qface_jax.train import loop
from support.closeness import assert_close_in_norm
from support.small_run import small

STEPS_EACH = 2
CHAIN = (8, 4, 2, 1, 8)
PARTS = ("params/backbone", "params/head", "stats", "aux", "opt_state")


class PowerCutError(RuntimeError):
    """Ends a run after a checkpoint."""


@pytest.fixture
def devices(monkeypatch):
    """Sets how many devices the next run has."""
    make_mesh = parallel.make_mesh

    def use(count):
        mesh = make_mesh(jax.devices()[:count])
        monkeypatch.setattr(parallel, "make_mesh", lambda: mesh)

    return use


@pytest.fixture
def cut_after(monkeypatch):
    """Sets the step after whose checkpoint the power fails."""
    save = Checkpoints.save
    last = [None]

    def saved_and_cut(self, step, state):
        save(self, step, state)
        if step == last[0]:
            raise PowerCutError

    monkeypatch.setattr(Checkpoints, "save", saved_and_cut)
    return lambda step: last.__setitem__(0, step)


# The queue is full for the last steps only; some pairs are contrasted, some not.
QGFACE = ("objective=qgface", "qgface.queue_size=250", "qgface.threshold=0.47")


@pytest.mark.parametrize(
    "objective, rate",
    [
        pytest.param((), 0.25, id="classification"),
        pytest.param(QGFACE, 0.25, id="qgface", marks=pytest.mark.slow),
    ],
)
def test_a_run_moves_from_8_to_4_to_2_to_1_and_back(
    objective, rate, devices, cut_after, noise_records, tmp_path
):
    steps = STEPS_EACH * len(CHAIN)
    config = small(
        f"total_steps={steps}",
        f"checkpoint.interval={STEPS_EACH}",
        f"classifier.sample_rate={rate}",
        *objective,
        "classifier.pad_to=16",
        *noise_records,
        "eval.sets=()",
        "log.interval=1",
        "optim.learning_rate=0.01",
    )
    devices(1)
    loop.train(config, tmp_path / "whole")
    for number, count in enumerate(CHAIN, 1):
        devices(count)
        cut_after(number * STEPS_EACH if number < len(CHAIN) else None)
        try:
            loop.train(config, tmp_path / "moved")
        except PowerCutError:
            assert number < len(CHAIN)
    (step, got), (_, want) = (
        load_parts(tmp_path / name, "last", PARTS) for name in ("moved", "whole")
    )
    assert step == steps
    assert_close_in_norm(got, want, 1e-4, floor=0.1)
    losses = [
        [
            json.loads(line)["loss"]
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("moved", "whole")
    ]
    assert len(losses[0]) == steps  # each step once: the data went on where it was
    np.testing.assert_allclose(*losses, rtol=1e-4)
