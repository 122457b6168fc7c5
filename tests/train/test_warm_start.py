"""Starting from another run's weights."""

import jax
import numpy as np
import pytest

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.errors import ConfigError
from qface_jax.runs.checkpoint import Checkpoints, load_parts
from qface_jax.sharded import parallel
from qface_jax.train import loop
from qface_jax.train.setup import build, fresh_state
from support.small_run import small


def test_init_from_a_run_with_other_classes(whole_run, tmp_path, capsys):
    run, _, _ = whole_run
    config = small("data.synthetic.identities=9", "total_steps=1")
    loop.train(config, tmp_path / "run", init_from=run)
    said = capsys.readouterr().err
    assert "took " in said
    assert "new: head/centres (12 classes there, 9 here)" in said
    _, parts = load_parts(run, "last", ("params/backbone", "stats"))
    # One step at most away from where the other run ended, not from a fresh start.
    _, mine = load_parts(tmp_path / "run", "last", ("params/backbone",))
    setup = build(config, sources.training_source(config), parallel.make_mesh())
    fresh = fresh_state(setup).params["backbone"]

    def distance(a, b):
        return sum(
            float(np.sum((np.asarray(x) - np.asarray(y)) ** 2))
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )

    theirs = parts["params/backbone"]
    assert distance(mine["params/backbone"], theirs) < distance(fresh, theirs)


def test_init_from_the_same_classes_takes_the_centres(whole_run, tmp_path, capsys):
    run, _, _ = whole_run
    loop.train(small("total_steps=1", "seed=3"), tmp_path / "run", init_from=run)
    assert "  new:" not in capsys.readouterr().err


def test_a_run_killed_before_its_first_checkpoint_starts_from_there_again(
    whole_run, tmp_path, capsys, monkeypatch
):
    run, _, _ = whole_run
    config = small("total_steps=1")

    def die(*unused):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die)
        with pytest.raises(RuntimeError):
            loop.train(config, tmp_path / "run", init_from=run)
    capsys.readouterr()
    loop.train(config, tmp_path / "run")
    assert f"started from {run}: took" in capsys.readouterr().err


def test_init_from_another_backbone_says_so(whole_run, tmp_path):
    run, _, _ = whole_run
    config = small("model.backbone=mobilefacenet", "model.embedding_dim=24")
    with pytest.raises(ConfigError, match=r"no leaf of its backbone tiny fits"):
        loop.train(config, tmp_path / "run", init_from=run)
    assert not (tmp_path / "run" / "config.json").exists()
