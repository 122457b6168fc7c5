"""Small runs for the tests: a few steps of the smallest backbone."""

import jax
import numpy as np

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.settings import config as configs
from qface_jax.sharded import parallel
from support import shared_setup

SMALL = (
    "total_steps=6",
    "model.backbone=tiny",
    "model.embedding_dim=16",
    "data.batch_size=16",
    "data.synthetic.identities=12",
    "data.synthetic.images_per_identity=4",
    "degrade.recipe=adaface",
    "optim.warmup_steps=0",
    "eval.synthetic.identities=6",
    "eval.synthetic.pairs=20",
    "eval.resolutions=(112,14)",
    "eval.batch_size=16",
    "checkpoint.interval=3",
    "log.interval=2",
    "log.pictures=False",
)


def words(*changes):
    """Overrides of a small run, as the command line takes them."""
    return [f"--config.{word}" for word in (*SMALL, *changes)]


def small(*changes):
    """Config of a small run."""
    return configs.load("demo", words(*changes))


def final_state(config, run):
    """State of the newest checkpoint of a run."""
    setup = shared_setup.build(
        config, sources.training_source(config), parallel.make_mesh()
    )
    with Checkpoints(run, keep=2) as checkpoints:
        return checkpoints.restore_latest(setup.abstract)


def assert_equal(got, want):
    """Two states are the same, bit for bit."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
