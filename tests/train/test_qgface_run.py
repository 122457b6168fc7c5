"""Runs of the joint objective: exact resume, warm starts, what is logged."""

import json

import jax
import numpy as np
import pytest

from qface_jax.runs.checkpoint import load_parts
from qface_jax.train import loop
from support.power_cut import train_until_cut
from support.small_run import assert_equal, final_state, small


def config_of(*words):
    return small("objective=qgface", "degrade.recipe=qgface", "eval.sets=()",
                 "log.interval=1", "qgface.threshold=0.48", *words)  # fmt: skip


def interrupted_and_resumed(config, folder):
    """State at the end of a run whose power failed after step 3, and at step 3."""
    train_until_cut(config, folder)
    halfway = final_state(config, folder)
    loop.train(config, folder)
    return halfway, final_state(config, folder)


@pytest.mark.parametrize(
    "queue", ["proxy", pytest.param("momentum", marks=pytest.mark.slow)]
)
def test_resume_with_a_half_full_queue_is_bit_for_bit(queue, tmp_path):
    """The queue is partly filled at the interruption and overwritten at the end."""
    entering = 3 * 16 * (2 if queue == "proxy" else 1)
    size = entering + 20
    config = config_of(f"qgface.queue={queue}", f"qgface.queue_size={size}")
    loop.train(config, tmp_path / "whole")
    whole = final_state(config, tmp_path / "whole")
    assert (tmp_path / "whole" / "samples" / "norm_similarity.png").is_file()
    halfway, resumed = interrupted_and_resumed(config, tmp_path / "cut")
    assert np.sum(np.asarray(halfway.aux["queue"].labels) >= 0) == entering
    assert np.sum(np.asarray(resumed.aux["queue"].labels) >= 0) == size
    assert int(resumed.aux["queue"].cursor) == 2 * entering - size
    assert (resumed.averaged is None) == (queue == "proxy")
    assert_equal(resumed, whole)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    fill = [json.loads(line)["queue_fill"] for line in lines]
    np.testing.assert_allclose(
        fill, np.minimum(np.arange(1, 7) * entering / 3 / size, 1)
    )


def test_a_warm_start_begins_the_average_with_the_weights(whole_run, tmp_path):
    config = config_of("qgface.queue=momentum", "total_steps=1",
                       "optim.learning_rate=1e-9")  # fmt: skip
    loop.train(config, tmp_path / "run", init_from=whole_run[0])
    parts = ("averaged/backbone", "params/backbone")
    _, found = load_parts(tmp_path / "run", "last", parts)
    _, source = load_parts(whole_run[0], "last", ("params/backbone",))
    for name in parts:
        for a, b in zip(
            jax.tree.leaves(found[name]),
            jax.tree.leaves(source["params/backbone"]),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
