"""`qface import`, from the command line to what eval and train make of its folder."""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest

from qface_jax import models
from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.tools import sample_images
from qface_jax.errors import ConfigError, DataError
from qface_jax.launch import main
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import load_parts
from qface_jax.train import loop, start
from qface_jax.weights import imported_run, parity
from qface_jax.weights.convention import PRESETS
from support import drawn_weights
from support.onnx_model import Case, model
from support.small_run import small
from support.torch_writer import state_dict as stored
from support.torch_writer import write_legacy

BODY = (
    "c = Conv <strides = [8, 8], pads = [1, 1, 1, 1]> (x, stem, bias) r = Relu (c) "
    "h = GlobalAveragePool (r)"
)
WEIGHTS = {"stem": (16, 3, 3, 3), "bias": (16,)}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An ONNX file of a small network that sees 112 px."""
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    onnx.save(model(Case(BODY, WEIGHTS), batch=1, side=112), path)
    return path


@pytest.fixture(scope="module")
def imported(network, tmp_path_factory):
    """The run that it becomes."""
    out = tmp_path_factory.mktemp("imported") / "run"
    assert main.main(["import", str(network), str(out), "--preprocess=magface"]) == 0
    return out


def test_the_folder_is_a_run(imported):
    run = run_folder.read(imported)
    assert (run.num_classes, run.config.model.backbone) == (0, "onnx")
    assert run.config.model.embedding_dim == 16
    assert run.config.model.color_order == "BGR"
    assert run.config.model.input_std == (255.0, 255.0, 255.0)
    assert run.facts["imported"]["parameters"] == 16 * 28
    _, parts = load_parts(imported, "last", ("params/backbone", "stats", "params/head"))
    assert parts["params/head"] == {} == parts["stats"]
    assert sum(leaf.size for leaf in jax.tree.leaves(parts["params/backbone"])) == 448
    assert [path.name for path in imported.parent.iterdir()] == ["run"]


def test_what_is_said(network, tmp_path, capsys):
    out = tmp_path / "run"
    assert main.main(["import", str(network), str(out)]) == 0
    said = capsys.readouterr()
    assert "input taken to be RGB, (x - 127.5) / 127.5 of pixels 0..255" in said.err
    for kind, batch in (("random", 1), ("random", 8), ("drawn faces", 8)):
        assert f"{kind}, batch {batch}: largest difference" in said.err
    assert f"{out}: onnx, 448 parameters, features of 16, no class centres" in said.out
    assert f"agrees with {network}" in said.out
    assert f"qface eval --checkpoint={out}" in said.out


def test_eval_judges_it(imported, capsys):
    words = ["--config.eval.synthetic.pairs=20", "--config.eval.resolutions=(112,)"]
    words += ["--config.eval.synthetic.identities=6", "--config.eval.batch_size=16"]
    with jax.numpy_dtype_promotion("standard"):
        assert main.main(["eval", f"--checkpoint={imported}", *words]) == 0
    assert "112" in capsys.readouterr().out


def test_pictures_cannot_be_judged_by_it(imported, tmp_path, capsys):
    words = [f"--checkpoint={imported}", f"--out={tmp_path / 'a.png'}", "--count=1"]
    words += ["--config.data.synthetic.identities=2"]
    assert main.main(["data", "preview", *words]) == 2
    assert (
        "is an imported model, which keep no statistics of the feature norms"
        in capsys.readouterr().err
    )


def test_training_starts_from_it_and_not_in_it(imported, tmp_path, capsys):
    config = small(
        "total_steps=1", "model.backbone=init_from", "optim.learning_rate=1e-9"
    )
    config = start.resolve(config, imported, tmp_path / "run")
    with jax.numpy_dtype_promotion("standard"):
        loop.train(config, tmp_path / "run", init_from=imported)
        said = capsys.readouterr().err
        assert "took 2 of 3 leaves" in said
        assert "new: head/centres (no classes there, 12 here)" in said
        with pytest.raises(ConfigError, match="holds an imported model, which stays"):
            loop.train(config, imported)
    _, mine = load_parts(tmp_path / "run", "last", ("params/backbone",))
    _, theirs = load_parts(imported, "last", ("params/backbone",))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), mine, theirs)


def test_class_centres_are_padded_and_counted(tmp_path):
    model = imported_run.model_changes("tiny", 4, PRESETS["insightface"])
    build = models.build(imported_run.config_of(model).model)
    shapes = jax.eval_shape(build.init, jax.random.key(0))
    params, stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    centres = np.arange(12, dtype=np.float32).reshape(3, 4)
    imported = imported_run.ImportedModel(
        model, params, stats, {"centres": centres}, {}
    )
    imported_run.write(tmp_path / "run", imported)
    assert run_folder.read(tmp_path / "run").num_classes == 3
    _, parts = load_parts(tmp_path / "run", "last", ("params/head",))
    saved = parts["params/head"]["centres"]
    assert saved.shape == (get_config().classifier.pad_to, 4)
    np.testing.assert_array_equal(saved[:3], centres)
    assert not saved[3:].any()


def other_network(path):
    values = {"stem": np.ones((16, 3, 3, 3), np.float32), "bias": (16,)}
    onnx.save(model(Case(BODY, values), batch="N", side=112), path)
    return path


def test_a_difference_leaves_nothing_behind(network, tmp_path, capsys):
    against = other_network(tmp_path / "other.onnx")
    words = ["import", str(network), str(tmp_path / "run"), f"--against={against}"]
    assert main.main(words) == 2
    said = capsys.readouterr().err
    assert "differs from its source by more than 0.0001" in said
    assert "nothing was written" in said
    assert [path.name for path in tmp_path.iterdir()] == ["other.onnx"]
    assert main.main([*words, "--tolerance=1e9"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tolerance=0"], "--tolerance: got 0, must be above 0"),
        (["--mean=1,2"], "--mean: got 1.0,2.0, expected one number or three"),
        (["--std=0"], "--std: got 0.0, 0.0, 0.0, must be above 0"),
        (["--structure=iresnet50"], "an .onnx file brings its own structure"),
    ],
)
def test_wrong_words_are_one_message(words, message, network, tmp_path, capsys):
    assert main.main(["import", str(network), str(tmp_path / "run"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_there_is_kept(network, imported, tmp_path, capsys):
    before = (imported / "config.json").read_bytes()
    assert main.main(["import", str(network), str(imported)]) == 2
    assert "is already there" in capsys.readouterr().err
    assert (imported / "config.json").read_bytes() == before
    assert main.main(["import", str(tmp_path / "no.pt"), str(tmp_path / "run")]) == 2
    assert "no.pt: no such file" in capsys.readouterr().err


def test_without_onnxruntime_it_says_that_nothing_was_checked(
    network, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main.main(["import", str(network), str(tmp_path / "run")]) == 0
    assert "not checked: onnxruntime is not installed" in capsys.readouterr().out


def test_other_sizes_than_ours_are_refused(tmp_path, capsys):
    path = tmp_path / "small.onnx"
    onnx.save(model(Case(BODY, WEIGHTS), side=96), path)
    assert main.main(["import", str(path), str(tmp_path / "run")]) == 2
    assert "takes images of 96 px, all faces here are of 112" in capsys.readouterr().err


def test_a_pytorch_file_is_mapped_and_not_checked(golden, tmp_path, capsys):
    recorded = golden("published_networks")["mobilefacenet"]
    write_legacy(tmp_path / "w.pth", stored(drawn_weights.state_dict(recorded)))
    out = tmp_path / "run"
    assert main.main(["import", str(tmp_path / "w.pth"), str(out)]) == 0
    said = capsys.readouterr()
    assert "mobilefacenet, " in said.out
    assert "not checked: no reference at hand" in said.out
    run = run_folder.read(out)
    assert run.config.model.backbone == "mobilefacenet"
    assert json.loads((out / "config.json").read_text())["data"] is None


def test_a_source_that_normalises_is_compared_by_directions():
    draws = np.random.default_rng(0).normal(size=(9, 4))

    def ours(pixels):
        return draws[: len(pixels)] * 3

    def theirs(pixels):
        rows = draws[: len(pixels)]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    pictures = {"random": parity.random_images(8)}
    found = parity.compare(ours, theirs, pictures)
    assert found[1].as_directions
    assert found[1].difference < 1e-12
    parity.refuse_difference(found[1:], 1e-4)


def test_a_feature_that_is_no_number_is_a_difference():
    def ours(pixels):
        return np.full((len(pixels), 4), np.nan)

    def theirs(pixels):
        return np.full((len(pixels), 4), 3.0)

    found = parity.compare(ours, theirs, {"random": parity.random_images(8)})
    with pytest.raises(DataError, match="differs from its source"):
        parity.refuse_difference(found, 1e-4)


def test_images_to_check_with(tmp_path, faces_dir):
    assert sample_images.sample(faces_dir / "lfw_open.bin", 3).shape == (3, 112, 112, 3)
    found = sample_images.sample(faces_dir / "folder", 5)
    assert found.dtype == np.uint8
    assert len(found) == 5
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image: expected files with"):
        sample_images.sample(tmp_path / "empty", 3)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(DataError, match=r"a\.png: not a picture"):
        sample_images.sample(tmp_path, 3)


@pytest.fixture
def weights_dir():
    """The folder of public weights; tests that need it are skipped without it."""
    default = Path(__file__).parents[4] / "shared" / "weights"
    folder = Path(os.environ.get("QFACE_WEIGHTS", default))
    if not (folder / "mobilefacenet_foamliu.pt").is_file():
        pytest.skip(
            "no public weights: set QFACE_WEIGHTS to a folder with "
            "mobilefacenet_foamliu.pt, mobilefacenet_foamliu.onnx and "
            "mobilefacenet_faceplugin.onnx, as foamliu/MobileFaceNet and "
            "Faceplugin publish them"
        )
    return folder


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("mobilefacenet_foamliu.pt", ["--against={}/mobilefacenet_foamliu.onnx"]),
        pytest.param(
            "mobilefacenet_foamliu.onnx",
            ["--preprocess=imagenet"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "mobilefacenet_faceplugin.onnx",
            ["--preprocess=faceplugin"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_public_weights(file, words, weights_dir, tmp_path, capsys):
    words = [word.format(weights_dir) for word in words]
    source, out = str(weights_dir / file), str(tmp_path / "run")
    assert main.main(["import", source, out, *words]) == 0
    assert "agrees with" in capsys.readouterr().out
