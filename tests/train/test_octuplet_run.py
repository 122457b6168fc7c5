"""Fine-tuning another run's model, from the command line to what it leaves."""

import json
import re

import jax
import numpy as np
import onnx
import pytest

from qface_jax import models
from qface_jax.errors import ConfigError
from qface_jax.launch import main
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import load_parts
from qface_jax.settings import config as configs
from qface_jax.train import start
from support.closeness import assert_close_in_norm
from support.onnx_model import Case, model
from support.power_cut import train_until_cut
from support.processes import Processes
from support.small_run import SMALL, assert_equal, final_state

OCTUPLET = (
    *SMALL,
    "log.pictures=True",
    "model.backbone=init_from",
    "data.source=synthetic",
    "degrade.recipe=octuplet",
    "eval.sets=('synthetic',)",
    "eval.folds=10",
    # As the run that it starts from.
    "eval.metric=euclidean",
    "eval.flip=True",
)
MODEL = ("params/backbone", "stats")
NETWORK = (
    "c = Conv <strides = [8, 8], pads = [1, 1, 1, 1]> (x, stem) "
    "n = BatchNormalization (c, scale, bias, mean, var) r = Relu (n) "
    "d = Conv <strides = [4, 4]> (r, next) h = PRelu (d, slope)"
)
WEIGHTS = {
    "stem": (8, 3, 3, 3), "scale": (8,), "bias": (8,), "mean": (8,), "var": (8,),
    "next": (4, 8, 4, 4), "slope": (4, 1, 1),
}  # fmt: skip


def logged(run, name="loss"):
    """Values by step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


def command(run, init_from, *changes):
    """Words after `qface`."""
    words = [f"--config.{word}" for word in (*OCTUPLET, *changes)]
    start = [] if init_from is None else [f"--init-from={init_from}"]
    return ["train", "--config=octuplet_small", f"--workdir={run}", *start, *words]


def config_of(init_from, run):
    words = [f"--config.{word}" for word in OCTUPLET]
    return start.resolve(configs.load("octuplet_small", words), init_from, run)


@pytest.fixture(scope="module")
def tuned(whole_run, tmp_path_factory):
    """A fine-tuned run, and what the command said and printed."""
    run = tmp_path_factory.mktemp("tuned") / "run"
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        said = []
        patch.setattr(
            "builtins.print", lambda *a, **k: said.append(" ".join(map(str, a)))
        )
        assert main.main(command(run, whole_run[0])) == 0
    return run, "\n".join(said)


def test_it_is_the_other_runs_model(tuned, whole_run):
    run, said = tuned
    model = run_folder.read(run).config.model
    assert (model.backbone, model.embedding_dim) == ("tiny", 16)
    assert model.freeze_batch_norm
    assert f"started from {whole_run[0]}: took" in said and "  new:" not in said
    assert "octuplet with tiny" in said


def test_the_original_and_the_frozen_statistics_stay(tuned, whole_run):
    parts = (*MODEL, "original/backbone", "original/stats", "params/head", "aux")
    step, mine = load_parts(tuned[0], "last", parts)
    _, theirs = load_parts(whole_run[0], "last", MODEL)
    assert step == 6
    assert_equal(mine["original/backbone"], theirs["params/backbone"])
    for stats in ("stats", "original/stats"):
        assert_equal(mine[stats], theirs["stats"])
    assert mine["params/head"] == {} == mine["aux"]
    # Everything learns, the batch norms' scales too.
    for a, b in zip(
        *(jax.tree.leaves(t["params/backbone"]) for t in (mine, theirs)), strict=True
    ):
        assert np.any(np.asarray(a) != np.asarray(b))


def test_what_is_logged_and_drawn(tuned):
    run, _ = tuned
    drift = logged(run, "drift_high")
    assert drift[1] < 1e-10 < 1e-6 < drift[6] < 1
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"loss_octuplet", "loss_hll", "active_hhh", "without_positive", "norm_low",
            "similarity_views", "distance_negative_lll"} <= set(lines[0])  # fmt: skip
    assert all(np.isfinite(v) for line in lines for v in line.values())
    assert lines[0]["without_positive"] == 0.0
    assert (run / "samples" / "train_batch.png").stat().st_size > 1000


def test_it_is_judged_before_and_after(tuned, whole_run):
    """Before the first step the model is what the other run ended with."""
    run, said = tuned
    before = json.loads((run / "before" / "eval" / "synthetic.json").read_text())
    theirs = json.loads((whole_run[0] / "eval" / "synthetic.json").read_text())
    assert before["details"] == theirs["details"]
    assert (run / "eval" / "synthetic.json").is_file()
    # 20 pairs at two sides.
    cost = (
        r"before: evaluates 80 images of 1 set, each side counted, at [\d,]+ images/s"
    )
    assert re.search(rf"{cost}: about [\d,.]+ min; --config\.eval\.max_pairs=N", said)
    assert said.index("before: evaluates") < said.index("before: synthetic mean_cross")
    table = said[said.index("accuracy before and after") :]
    assert "cross before" in table and "14 px" in table and "mean" in table
    page = (run / "report.html").read_text()
    assert "before" in page


def test_without_a_start_it_says_what_to_give(tmp_path, capsys):
    assert main.main(command(tmp_path / "run", None)) == 2
    said = capsys.readouterr().err
    assert "model.backbone: is init_from" in said and "give --init-from=RUN" in said
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_when_what_it_started_from_is_gone(tuned, tmp_path):
    run, _ = tuned
    found = config_of(tmp_path / "gone", run)
    assert found.model == run_folder.read(run).config.model


def test_a_config_that_names_its_backbone_keeps_it(whole_run, tmp_path):
    config = configs.load("demo", [])
    assert start.resolve(config, whole_run[0], tmp_path) is config
    with pytest.raises(ConfigError, match="init_from"):
        start.resolve(
            configs.load("octuplet_small", ["--config.data.path=x"]), None, tmp_path
        )


def test_cut_in_the_middle_and_resumed_is_bit_for_bit(
    tuned, whole_run, tmp_path, capsys
):
    """The same command without the start; the run knows its model and the original."""
    whole, run = tuned[0], tmp_path / "run"
    config = config_of(whole_run[0], run)
    train_until_cut(config, run, init_from=whole_run[0])
    assert final_state(config, run).step == 3
    assert "before: " in capsys.readouterr().err
    assert main.main(command(run, None)) == 0
    said = capsys.readouterr()
    assert "going on after step 3" in said.err and "before: " not in said.err
    assert "accuracy before and after" in said.out
    assert_equal(final_state(config, run), final_state(config, whole))
    assert logged(run) == logged(whole)


def import_network(folder):
    """Imports a small graph and returns the folder of its run."""
    network, imported = folder / "n.onnx", folder / "import"
    onnx.save(model(Case(NETWORK, WEIGHTS), batch=1, side=112), network)
    words = [str(network), str(imported), "--preprocess=magface"]
    assert main.main(["import", *words]) == 0
    return imported


@pytest.mark.parametrize(
    "recipe", ["octuplet_face_transformer", "recognizability_r50_tinyface"]
)
def test_a_recipes_dropout_is_left_out_where_the_network_has_none(
    recipe, tmp_path, capsys
):
    imported = import_network(tmp_path)
    config = configs.load(recipe, ["--config.data.path=somewhere"])
    assert config.model.dropout > 0
    resolved = start.resolve(config, imported, tmp_path / "run")
    assert resolved.model.dropout == 0
    assert resolved.model.backbone == "onnx"
    models.build(resolved.model)
    said = capsys.readouterr().err
    assert f"model.dropout: {config.model.dropout:g} of the recipe is left out" in said


@pytest.mark.slow  # test_import_command starts from an import, too
def test_an_imported_network_is_fine_tuned(tmp_path):
    run, imported = tmp_path / "run", import_network(tmp_path)
    changes = ("total_steps=2", "octuplet.keep_low_weight=0", "eval.sets=()")
    assert main.main(command(run, imported, *changes)) == 0
    found = run_folder.read(run).config.model
    assert (found.backbone, found.color_order) == ("onnx", "BGR")
    assert found.embedding_dim == 4 * 3 * 3
    _, mine = load_parts(run, "last", MODEL)
    _, theirs = load_parts(imported, "last", MODEL)
    assert_equal(mine["stats"], theirs["stats"])
    (scale,) = (
        (np.asarray(a), np.asarray(b))
        for (path, a), b in zip(
            jax.tree.leaves_with_path(mine["params/backbone"]),
            jax.tree.leaves(theirs["params/backbone"]),
            strict=True,
        )
        if "'scale'" in jax.tree_util.keystr(path)
    )
    assert np.any(scale[0] != scale[1])


@pytest.mark.slow  # mining over devices is test_mining's, hosts' batches test_faces'
def test_two_processes_take_the_same_steps(whole_run, tmp_path):
    found = []
    changes = ("eval.sets=()", "log.interval=1", "optim.learning_rate=1e-5")
    for processes, devices in ((1, 1), (2, 4)):
        run = tmp_path / f"{processes}"
        with Processes(
            tmp_path / f"said{processes}", command(run, whole_run[0], *changes),
            count=processes, devices=devices,
        ) as started:  # fmt: skip
            started.finish()
        found.append((logged(run), load_parts(run, "last", MODEL)[1]))
    (want, state), (got, same) = found
    assert list(got) == list(want) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-5)
    assert_close_in_norm(same, state, 1e-5, floor=0.1)
