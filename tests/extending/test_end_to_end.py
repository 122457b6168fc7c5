"""A newcomer's own margin, objective, backbone and so on, through the real commands.

The code is that of docs/extending.md: one file outside the package for each.
One run uses as many of them at once as go together.
"""

import csv
import html
import json
import re
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from qface_jax import tables
from qface_jax.evals import results
from qface_jax.launch import main
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import load_parts, saved_steps
from qface_jax.train import start
from support import examples
from support.image_files import noise
from support.small_run import small, words

MARGIN, BACKBONE, SOURCE, RECIPE, PROTOCOL, SCORE = NAMES = (
    "my_losses:CURVY", "my_nets:STACK", "my_sources:LISTED", "my_recipes:FOG",
    "my_protocols:IDENTIFICATION", "my_scores:SPREAD",
)  # fmt: skip
CONFIG = "my_configs:long_arcface"
OWN = ("my_", "stranger", "qface_user_my_")  # beginnings of the modules' names
PEOPLE, IMAGES = 12, 4
TRAIN = [
    "train",
    f"--config={CONFIG}",
    *words(
        "total_steps=4",
        "optim.learning_rate=0.01",
        "checkpoint.interval=2",
        "log.interval=1",
        "log.pictures=True",
        "eval.interval=2",
        f"loss.margin={MARGIN}",
        "own.margin.margin=0.3",
        f"model.backbone={BACKBONE}",
        "own.backbone.width=8",
        f"data.source={SOURCE}",
        "data.path=faces.txt",
        f"degrade.recipe={RECIPE}",
        "own.degradation.density=0.5",
        f"eval.sets=('{PROTOCOL}=people','synthetic')",
        f"eval.quality_scores=('{SCORE}',)",
        "own.quality_score.largest=4",
    ),
]


def qface(*arguments):
    """Exit status of a command as typed: nothing is trusted or imported before."""
    tables._trusted.clear()
    for module in [name for name in sys.modules if name.startswith(OWN)]:
        del sys.modules[module]
    with jax.numpy_dtype_promotion("standard"):
        return main.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory):
    """The current folder: the examples' files and a few images."""
    folder = tmp_path_factory.mktemp("lab")
    examples.write_all(folder)
    lines = []
    for number in range(PEOPLE * IMAGES):
        file = folder / f"{number}.png"
        Image.fromarray(noise(112, 112, number)).save(file)
        lines.append(f"{file.name} {number // IMAGES}\n")
    (folder / "faces.txt").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(tables, "_trusted", set())
        yield folder


@pytest.fixture(scope="module")
def trained(lab):
    """A run of everything that goes together; `printed.txt` beside it."""
    with pytest.MonkeyPatch.context() as patch, (lab / "printed.txt").open("w") as file:
        patch.setattr(sys, "stdout", file)
        assert qface(*TRAIN) == 0
    return lab / "runs" / "long_arcface"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, for what writes into it."""
    return shutil.copytree(trained, tmp_path / "run")


def events(run):
    return [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]


def shown(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.read_text())).split())


def test_config(trained):
    config = run_folder.read(trained).config
    # The shipped demo's, the example's, and the command line's.
    assert (config.data.batch_size, config.total_steps) == (16, 4)
    assert config.optim.schedule == "cosine"
    assert config.own.to_dict() == {
        "margin": {"margin": 0.3}, "objective": {}, "backbone": {"width": 8},
        "source": {}, "degradation": {"density": 0.5}, "protocol": {},
        "quality_score": {"largest": 4},
    }  # fmt: skip


def test_margin(trained, lab, capsys):
    losses = [event["loss"] for event in events(trained) if "loss" in event]
    assert len(losses) == 4 and np.isfinite(losses).all()
    assert (trained / "samples" / "gst.png").is_file()
    names = ("my_losses.py:CURVY", "softmax")
    assert qface("gst", f"--margin={','.join(names)}", "--out=gst.png") == 0
    table = capsys.readouterr().out
    assert [table.count(name) for name in names] == [3, 3]
    assert (lab / "gst.png").read_bytes().startswith(b"\x89PNG")


def test_backbone(trained):
    _, saved = load_parts(trained, "last", ("params/backbone",))
    first = saved["params/backbone"]["Conv_0"]["kernel"]
    assert first.shape == (3, 3, 3, 8)


def test_source(trained, lab, capsys):
    facts = run_folder.read(trained)
    assert facts.num_classes == PEOPLE
    assert facts.facts["data"] == {"source": "faces.txt", "images": PEOPLE * IMAGES}
    inspect = ("data", "inspect", "faces.txt", f"--source={SOURCE}", "--sheet=s.png")
    assert qface(*inspect) == 0
    assert f"identities: {PEOPLE}" in capsys.readouterr().out
    assert (lab / "s.png").is_file()
    assert qface("data", "import", "faces.txt", "copy", f"--source={SOURCE}") == 0


def test_degradation(trained, lab):
    for density in (0, 1):
        assert qface(
            "data", "preview", "--config=demo", "--count=2",
            "--config.degrade.recipe=my_recipes.py:FOG",
            f"--config.own.degradation.density={density}", f"--out={density}.png",
        ) == 0  # fmt: skip
    clear, foggy = (np.asarray(Image.open(lab / f"{d}.png")) for d in (0, 1))
    assert clear.shape == foggy.shape and np.any(clear != foggy)


def test_protocol(trained, lab):
    logged = [event for event in events(trained) if "people/rank_1" in event]
    scores = {event["step"]: event["people/rank_1"] for event in logged}
    assert list(scores) == [2, 4]
    # The first of equally good ones is kept.
    assert saved_steps(trained)["best"] == max(scores, key=scores.get)
    rank_1 = f"{100 * scores[4]:.2f}"
    printed = (lab / "printed.txt").read_text()
    assert re.search(rf"^people\n+rank 1\n-+\n +{rank_1}$", printed, re.MULTILINE)
    assert "synthetic: 20 pairs" in printed
    assert f"rank 1 {rank_1}" in shown(trained / "report.html")


def test_quality_score(trained, lab):
    result = results.read(results.result_path(trained, "synthetic"))
    assert f"rank_{SCORE}" in result.scalars
    assert "spread" in (lab / "printed.txt").read_text()
    assert "spread, by resolution" in shown(trained / "report.html")
    pictures = lab / "pictures"
    pictures.mkdir()
    for number in range(3):
        shutil.copy(lab / f"{number}.png", pictures)
    command = ("quality", "score", trained, pictures, "--out=scores.csv")
    score = "my_scores.py:SPREAD"
    assert qface(*command, f"--score={score}", "--trust-code") == 0
    with (lab / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The run leaves out the 4 largest entries of 16, a name given besides 8 of them.
    assert len(rows) == 3
    assert all(0 < float(row[score]) < float(row[SCORE]) < 1 for row in rows)


def test_objective(lab):
    name = "my_objectives:SMOOTH"
    command = (*TRAIN, f"--config.objective={name}", "--config.eval.sets=()")
    assert qface(*command, "--config.own.objective.smoothing=0.2", "--workdir=s") == 0
    losses = [event["loss"] for event in events(lab / "s") if "loss" in event]
    assert len(losses) == 4 and losses[0] == pytest.approx(np.log(PEOPLE), rel=0.1)
    _, saved = load_parts(lab / "s", "last", ("params/head",))
    assert saved["params/head"]["weights"].shape == (PEOPLE, 16)
    assert name in shown(lab / "s" / "report.html")


def test_command(trained, run, capsys):
    file = run / run_folder.CONFIG
    file.write_text(file.read_text().replace('"density": 0.5', '"density": 0.25'))
    assert qface("my_commands.py:COMPARE", trained, run) == 0
    assert capsys.readouterr().out == "own.degradation.density: was 0.5, now 0.25\n"
    with pytest.raises(SystemExit):
        qface("my_commands.py:COMPARE", "--help")
    assert "Print each config key that two runs differ in." in capsys.readouterr().out


def test_export_format(trained, lab, capsys):
    out = lab / "face.npz"
    format_ = "--format=my_formats.py:NPZ"
    assert qface("export", trained, out, format_, "--json", "--trust-code") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == "NumPy"
    assert facts["differences"]["embedding"][0]["difference"] < 1e-5
    with np.load(out) as arrays:
        assert any(name.startswith("params/") for name in arrays.files)
    with pytest.raises(SystemExit):
        qface("export", "--help")
    assert "onnx, stablehlo, safetensors, tflite" in capsys.readouterr().out


def test_the_same_command_goes_on(run, capsys):
    (run / "report.html").unlink()
    assert qface(*TRAIN, f"--workdir={run}") == 0
    assert (run / "report.html").is_file()
    changed = (*TRAIN, f"--workdir={run}", "--config.own.margin.margin=0.2")
    assert qface(*changed) == 2
    assert "own.margin.margin: was 0.3, now 0.2" in capsys.readouterr().err


def test_code_that_a_run_names_is_imported_only_if_trusted(run, capsys):
    evaluate = ("eval", f"--checkpoint={run}", "--config.eval.flip=false")
    assert qface(*evaluate) == 2
    assert f"margin {MARGIN}: is code that the run's folder names" in (
        capsys.readouterr().err
    )
    assert qface(*evaluate, "--trust-code") == 0
    assert "people" in capsys.readouterr().out


STRANGER = """
from pathlib import Path

Path("imported").touch()
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["eval", "--checkpoint=RUN"], 2),
        (["eval", "--checkpoint=RUN", "--config=demo"], 2),
        (["eval", "--checkpoint=RUN", "--config.eval.sets=a_stranger:ANY=x"], 2),
        (["quality", "score", "RUN", "0.png"], 2),
        (["data", "preview", "--checkpoint=RUN"], 2),
        (["train", "--config=demo", "--workdir=RUN", *words()], 2),
        (
            [
                "train", "--config=demo", "--workdir=new", "--init-from=RUN",
                *words("model.backbone=init_from"),
            ],
            2,
        ),
        (["report", "RUN"], 0),
    ],
)  # fmt: skip
def test_no_command_imports_what_the_folder_of_a_stranger_names(
    run, arguments, status, monkeypatch, capsys
):
    config = (run / run_folder.CONFIG).read_text()
    for name in NAMES:
        config = config.replace(name, "stranger:ANY")
    (run / run_folder.CONFIG).write_text(config)
    monkeypatch.chdir(run.parent)
    (run.parent / "stranger.py").write_text(STRANGER)
    shutil.copy(run / "samples" / "gst.png", "0.png")
    arguments = [word.replace("RUN", str(run)) for word in arguments]
    assert qface(*arguments) == status
    assert "Traceback" not in capsys.readouterr().err
    assert not (run.parent / "imported").exists()
    if "eval" in arguments:
        assert qface(*arguments, "--trust-code") == 2
        assert "stranger has no ANY" in capsys.readouterr().err
        assert (run.parent / "imported").exists()


def test_the_network_of_a_run_comes_with_its_options(trained, tmp_path):
    config = small("model.backbone=init_from")
    resolved = start.resolve(config, trained, tmp_path)
    assert resolved.model.backbone == BACKBONE
    assert resolved.own.backbone.width == 8


PLACES = {
    "Margin": ["train", "--config=demo", "--config.loss.margin=NAME"],
    "Objective": ["train", "--config=demo", "--config.objective=NAME"],
    "Backbone": ["train", "--config=demo", "--config.model.backbone=NAME"],
    "Source": ["train", "--config=demo", "--config.data.source=NAME"],
    "Degradation": ["train", "--config=demo", "--config.degrade.recipe=NAME"],
    "Protocol": ["train", "--config=demo", "--config.eval.sets=NAME=x"],
    "Quality score": ["train", "--config=demo", "--config.eval.quality_scores=NAME"],
    "Config": ["train", "--config=NAME"],
    "Command": ["NAME"],
}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:IT", "No module named 'nowhere'; the folder of a module of yours"),
        ("nowhere.py:IT", "there is no file "),
        ("my_losses:IT", "my_losses has no IT; it has: "),
        ("my_losses.py:COS_EPS", "got an object of type float, expected a "),
        ("my_broken:IT", "ZeroDivisionError: division by zero (NAME, line 1)"),
    ],
)
@pytest.mark.parametrize("title", PLACES)
def test_what_is_wrong_with_a_name_is_said(title, name, says, lab, capsys):
    broken = lab / "my_broken.py"
    broken.write_text("IT = 1 / 0\n")
    assert qface(*(word.replace("NAME", name) for word in PLACES[title])) == 2
    said = capsys.readouterr().err
    assert f"{examples.TABLES[title].kind} {name}: " in said
    assert says.replace("NAME", str(broken)) in said
