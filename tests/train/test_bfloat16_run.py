"""Runs whose class centres are stored in bfloat16: checkpoints and warm starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.errors import ConfigError
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.sharded import parallel
from qface_jax.train import loop
from qface_jax.train.setup import build, fresh_state
from qface_jax.train.start import warm_start
from support.small_run import assert_equal, final_state, small

NARROW = "classifier.dtype=bfloat16"


@pytest.fixture(scope="module")
def narrow_run(whole_run, tmp_path_factory):
    """One step in bfloat16 from the centres of a float32 run."""
    run = tmp_path_factory.mktemp("narrow") / "run"
    config = small(NARROW, "total_steps=1", "optim.learning_rate=1e-6")
    loop.train(config, run, init_from=whole_run[0])
    return run, config


def centres(state):
    return state.params["head"]["centres"]


def test_a_checkpoint_holds_the_stored_bits(tmp_path):
    config = small(NARROW)
    setup = build(config, sources.training_source(config), parallel.make_mesh())
    state = fresh_state(setup)
    assert centres(state).dtype == jnp.bfloat16
    (tmp_path / "run").mkdir()
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        checkpoints.save(0, state)
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        again = checkpoints.restore_latest(setup.abstract)
        wide = build(small(), sources.training_source(config), setup.mesh)
        with pytest.raises(
            ConfigError, match=r"bfloat16\[512, 16\] saved, float32\[512, 16\] exp"
        ):
            checkpoints.restore_latest(wide.abstract)
    assert_equal(again, state)
    assert centres(again).dtype == jnp.bfloat16


def test_a_warm_start_from_float32_and_back(whole_run, narrow_run):
    run, config = narrow_run
    wide = final_state(whole_run[1], whole_run[0])
    narrow = final_state(config, run)
    assert centres(narrow).dtype == jnp.bfloat16
    # Taken over to the nearest bfloat16, then one step of next to nothing.
    np.testing.assert_allclose(
        np.asarray(centres(narrow), np.float32), centres(wide), rtol=2**-7, atol=1e-5
    )
    source = sources.training_source(whole_run[1])
    setup = build(small(), source, parallel.make_mesh())
    back = warm_start(
        fresh_state(setup), run, objective=setup.objective, num_classes=12
    )
    assert back.left == {}
    assert centres(back.state).dtype == jnp.float32
    np.testing.assert_array_equal(
        centres(back.state), np.asarray(centres(narrow), np.float32)
    )
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(back.state))
