"""Runs with the recognizability objective: exact resume, devices, what they leave."""

import csv
import json

import jax
import numpy as np
import pytest
from PIL import Image

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.data_pipelines.sources.skipping_source import SkippingSource
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.inference.embedder import Embedder
from qface_jax.launch import main
from qface_jax.losses import recognizability as kernels
from qface_jax.models import heads
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import load_parts
from qface_jax.sharded import parallel
from qface_jax.train import class_means, loop
from qface_jax.train.setup import build, fresh_state
from support.closeness import assert_close_in_norm
from support.kept_source import Kept
from support.power_cut import train_until_cut
from support.processes import Processes
from support.small_run import SMALL, assert_equal, final_state, small

WORDS = (
    "objective=recognizability", "degrade.recipe=recognizability",
    "loss.margin=arcface", "optim.learning_rate=0.01",
    "recognizability.refresh_interval=2", "recognizability.ui_images=20",
    "recognizability.probe_images=6", "eval.resolutions=(112,28,7)",
    "eval.discard_fmr=0.2", "log.interval=1", "log.pictures=True",
)  # fmt: skip


def config_of(*words):
    return small(*WORDS, *words)


def logged(run):
    """Values by name and step."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        for name, value in event.items():
            found.setdefault(name, {})[event["step"]] = value
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that nothing disturbed, its config and results."""
    run, config = tmp_path_factory.mktemp("recognizability") / "run", config_of()
    return run, config, loop.train(config, run)


def test_what_is_logged(trained):
    found = logged(trained[0])
    assert {"loss_index", "loss_diversion", "loss_attention", "ri", "ri_target",
            "cos_ui", "cos_nearest"} <= set(found)  # fmt: skip
    # Before steps 1, 3 and 5.
    for name in ("ui_tightness", "ri_ui_mean", "ri_ui_std", "rank_ers", "rank_ri"):
        assert sorted(found[name]) == [1, 3, 5]
    assert all(-1 <= value <= 1 for value in found["rank_norm"].values())
    assert all(np.isfinite(v) for each in found.values() for v in each.values())


def test_the_uis_of_the_checkpoint_are_those_of_the_last_refresh(trained):
    run, _, _ = trained
    _, saved = load_parts(run, "last", ("aux/ui",))
    ui, found = saved["aux/ui"], logged(run)
    np.testing.assert_allclose(np.linalg.norm(ui["centre"]), 1.0, rtol=1e-5)
    np.testing.assert_allclose(ui["mean"], found["ri_ui_mean"][5], rtol=1e-6)
    np.testing.assert_allclose(ui["std"], found["ri_ui_std"][5], rtol=1e-6)


def test_the_evaluation_has_every_score(trained):
    run, _, (result,) = trained
    assert set(result.details["quality"]["scores"]) == {"norm", "ers", "ri"}
    again = results.read(results.result_path(run, "synthetic"))
    assert again.details == result.details
    for side in (112, 28, 7):
        for name in ("norms", "ers", "ri"):
            assert again.arrays[f"{name}_{side}"].shape == (
                2 * len(result.arrays["issame"]),
            )
    assert np.all(again.arrays["ers_7"] <= 1.0)


def test_scores_are_those_of_the_kernels(trained):
    run, _, _ = trained
    embedder = Embedder.from_run(run_folder.read(run), "last", parallel.make_mesh())
    _, saved = load_parts(run, "last", ("params/head/prm", "aux/ui"))
    features = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    found = {
        name: score(np.float64(features)) for name, score in embedder.scores.items()
    }
    regression = heads.perceptibility_regression(16, dropout=0.9)
    with jax.numpy_dtype_promotion("strict"):
        rows = jax.numpy.asarray(features)
        ri = regression.apply(saved["params/head/prm"], rows)
        centre = jax.numpy.asarray(saved["aux/ui"]["centre"])
        ers = 1 - kernels.unrecognizable_cosine(rows, centre)
    np.testing.assert_allclose(found["ri"], ri, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["ers"], np.minimum(ers, 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["norm"], np.linalg.norm(features, axis=1))


def test_pictures_for_the_report(trained):
    folder = trained[0] / "samples"
    for name in ("ui_cluster", "scores_synthetic", "maps_synthetic", "gst"):
        assert (folder / f"{name}.png").stat().st_size > 1000


def test_cut_in_the_middle_and_resumed_is_bit_for_bit(trained, tmp_path):
    whole, config, _ = trained
    run = tmp_path / "run"
    train_until_cut(config, run)
    assert final_state(config, run).step == 3
    loop.train(config, run)
    assert_equal(final_state(config, run), final_state(config, whole))
    skipped = ("time", "images_per_second", "data_wait_share")
    want, got = logged(whole), logged(run)
    assert {k: v for k, v in got.items() if k not in skipped} == {
        k: v for k, v in want.items() if k not in skipped
    }


def test_one_device_and_eight_end_alike(noise_records, tmp_path):
    """Steps, refreshes of the UIs and correlations of the scores."""
    config = config_of(*noise_records, "degrade.recipe=recognizability",
                       "eval.sets=()", "total_steps=3")  # fmt: skip
    loop.train(config, tmp_path / "eight")
    loop.train(config, tmp_path / "one", mesh=parallel.make_mesh(jax.devices()[:1]))
    states = [final_state(config, tmp_path / name) for name in ("eight", "one")]
    assert_close_in_norm(*states, 1e-5, floor=1.0)
    eight, one = (logged(tmp_path / name) for name in ("eight", "one"))
    for name in ("ui_tightness", "ri_ui_mean", "ri_ui_std", "loss", "loss_index"):
        np.testing.assert_allclose(
            list(eight[name].values()), list(one[name].values()), rtol=1e-5
        )


def test_class_means_are_where_the_classes_lie(whole_run):
    config = small("classifier.centres=class_means")
    source = sources.training_source(config)
    setup = build(config, source, parallel.make_mesh())
    state = fresh_state(setup)
    before = np.asarray(state.params["head"]["centres"])
    found = class_means.with_class_means(source, setup, state)
    centres = np.asarray(found.params["head"]["centres"])
    np.testing.assert_array_equal(centres[12:], before[12:])  # padding
    np.testing.assert_allclose(np.linalg.norm(centres[:12], axis=1), 1.0, rtol=1e-5)
    embedder = setup.embedder(state)
    sums = np.zeros((12, 16))
    for images, labels in class_means._batches(source, embedder):
        features = embedder(images).wait().features
        for feature, label in zip(features, labels, strict=True):
            sums[label] += feature / np.linalg.norm(feature)
    want = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(centres[:12], want, atol=1e-5)


def test_class_means_are_of_the_images_that_can_be_decoded():
    """As if the broken ones, known by their header or not, had never been there."""
    config = small("classifier.centres=class_means")
    drawn = sources.training_source(config)
    encoded, _ = drawn.fetch(np.array([9, 13]))
    setup = build(config, drawn, parallel.make_mesh())
    state = fresh_state(setup)

    def centres(source):
        changed = class_means.with_class_means(source, setup, state)
        return np.asarray(changed.params["head"]["centres"])

    broken = {9: b"", 13: encoded[1][: len(encoded[1]) // 2]}
    skipping = SkippingSource(Kept(drawn, broken), across_identities=True)
    left = [row for row in range(len(drawn)) if row not in broken]
    kept = Kept(drawn)
    kept.images = [kept.images[row] for row in left]
    kept.all_labels = kept.all_labels[left]
    np.testing.assert_allclose(centres(skipping), centres(kept), atol=1e-5)
    assert sorted(skipping.broken) == [9, 13]
    with pytest.raises(DataError, match=r"record 9: .*data\.skip_broken=True"):
        centres(Kept(drawn, broken))


def test_class_means_need_a_model_to_start_from(tmp_path):
    config = small("classifier.centres=class_means")
    with pytest.raises(ConfigError, match="give --init-from=RUN"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").glob("*.json"))


@pytest.mark.slow  # test_warm_start has the rest of it
def test_the_modules_go_on_to_other_people(trained, tmp_path, capsys):
    """A run on other classes takes the backbone, the PRM and the PAM."""
    config = config_of("data.synthetic.identities=9", "total_steps=1", "eval.sets=()",
                       "optim.learning_rate=1e-9",
                       "classifier.centres=class_means")  # fmt: skip
    loop.train(config, tmp_path / "run", init_from=trained[0])
    said = capsys.readouterr().err
    assert "new: head/centres" in said and "new: head/pr" not in said
    parts = ("params/head/prm", "params/head/pam")
    _, mine = load_parts(tmp_path / "run", "last", parts)
    _, theirs = load_parts(trained[0], "last", parts)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_erc_of_an_evaluated_run(trained, tmp_path, capsys):
    run = str(trained[0])
    out = tmp_path / "curves.csv"
    assert main.main(["quality", "erc", run, f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "false match rate of 0.2" in said and "left out" in said
    lines = out.read_text().splitlines()
    assert lines[0] == "set,score,left_out,fnmr"
    assert {line.split(",")[1] for line in lines[1:]} == {"norm", "ers", "ri"}
    assert main.main(["quality", "erc", run, "--set=lfw"]) == 2
    assert "evaluated are synthetic" in capsys.readouterr().err
    assert main.main(["quality", "erc", run, "--fmr=1e-6"]) == 0
    assert "No curve: too few" in capsys.readouterr().out


def test_scores_and_maps_of_a_run_with_every_module(trained, tmp_path, capsys):
    folder = tmp_path / "faces"
    folder.mkdir()
    for number, face in enumerate(drawn_faces(4)):
        Image.fromarray(face).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    run, table = str(trained[0]), tmp_path / "scores.csv"
    words = ["quality", "score", run, str(folder), f"--out={table}"]
    assert main.main(words) == 0
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["not_an_image"]
    for row in rows[:4]:
        assert float(row["norm"]) > 0 and float(row["ers"]) <= 1
        assert np.isfinite(float(row["ri"]))
    assert rows[4]["ri"] == "" and "rank correlation of" in capsys.readouterr().out
    out = tmp_path / "maps.png"
    words = ["quality", "maps", run, str(folder / "0.png"), "--resolutions=112,7"]
    assert main.main([*words, f"--out={out}"]) == 0
    assert "attention" in capsys.readouterr().out
    assert out.stat().st_size > 1000


def test_ui_cluster_of_a_run(trained, capsys):
    assert main.main(["quality", "ui-cluster", str(trained[0]), "--count=10"]) == 0
    said = capsys.readouterr().out
    assert "tightness 0." in said and "separation" in said
    assert "10 of 48 training faces" in said
    page = (trained[0] / "report.html").read_text()
    assert "ui cluster" in page and "Error versus discard" in page


@pytest.mark.slow  # devices are above, hosts' batches and sums in their own tests
def test_two_processes_end_like_one(noise_records, tmp_path, trained):
    """Class means, refreshes, evaluation and pictures over hosts."""
    words = (*SMALL, *WORDS, *noise_records, "degrade.recipe=recognizability",
             "classifier.centres=class_means", "total_steps=3",
             "optim.learning_rate=1e-4")  # fmt: skip
    found = []
    for processes, devices in ((1, 1), (2, 4)):
        run = tmp_path / f"{processes}"
        command = ["train", "--config=demo", f"--workdir={run}",
                   f"--init-from={trained[0]}",
                   *[f"--config.{word}" for word in words]]  # fmt: skip
        with Processes(
            tmp_path / f"said{processes}", command, count=processes, devices=devices
        ) as started:
            started.finish()
        parts = ("params/backbone", "params/head", "aux/ui")
        found.append((logged(run), load_parts(run, "last", parts)[1]))
        assert (run / "samples" / "ui_cluster.png").is_file()
    (want, state), (got, same) = found
    for name in ("loss", "ui_tightness", "ri_ui_mean", "ri_ui_std"):
        np.testing.assert_allclose(
            list(got[name].values()), list(want[name].values()), rtol=1e-4
        )
    assert_close_in_norm(same, state, 1e-4, floor=0.01)
