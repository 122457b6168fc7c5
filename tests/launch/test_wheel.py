"""The wheel in an environment of its own: every command works, from /, without a home.

The environment has the dependencies and the wheel; the source tree is out of reach.
"""

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import jax
import onnx
import pytest

from qface_jax.tables import COMMANDS
from support.model_in_use import write_people
from support.onnx_model import Case, model
from support.small_run import words

ROOT = Path(__file__).parents[2]
SMALL = words("total_steps=2", "log.interval=1")
NETWORK = Case(
    "c = Conv <strides = [8, 8], pads = [1, 1, 1, 1]> (x, stem, bias) r = Relu (c) "
    "h = GlobalAveragePool (r)",
    {"stem": (16, 3, 3, 3), "bias": (16,)},
)
# A command -> its smallest use, in an order in which each has what it needs, and a file
# that it writes, if any. RUN is the run that the first one trains.
USES = {
    ("train",): (["--config=demo", "--workdir=RUN", *SMALL], "run/report.html"),
    ("eval",): (["--checkpoint=RUN"], "run/eval/synthetic.json"),
    ("report",): (["RUN", "--out=W/page.html"], "page.html"),
    ("import",): (["W/network.onnx", "W/imported"], "imported/config.json"),
    ("embed",): (["RUN", "W/people", "--out=W/faces.npz"], "faces.npz"),
    ("compare",): (["RUN", "W/people/p0/0.png", "W/people/p1/0.png"], None),
    ("identify",): (["RUN", "W/faces.npz", "W/people/p0/0.png"], None),
    ("export",): (["W/network.onnx", "W/face.onnx"], "face.onnx.json"),
    ("plan",): (["--config=demo", "--devices=1", "--classes=12", *SMALL], None),
    ("data", "import"): (["6x4", "W/set", "--source=synthetic"], "set/labels.npy"),
    ("data", "inspect"): (["W/people", "--sheet=W/set.png"], "set.png"),
    ("data", "preview"): (["--config=demo", "--out=W/views.png"], "views.png"),
    ("data", "align"): (
        ["W/people", "W/aligned", "--landmarks=W/points.csv"], "aligned/sheet.png",
    ),
    ("data", "pairs"): (["W/people", "W/pairs.txt"], "pairs.txt"),
    ("quality", "score"): (["RUN", "W/people", "--out=W/scores.csv"], "scores.csv"),
    ("quality", "maps"): (
        ["RUN", "W/people", "--count=1", "--resolutions=112", "--out=W/maps.png"],
        "maps.png",
    ),
    ("quality", "erc"): (["RUN", "--fmr=0.5"], None),
    ("quality", "ui-cluster"): (["RUN", "--count=4", "--out=W/ui.png"], "ui.png"),
    ("gst",): (["--margin=arcface", "--out=W/gst.png"], "gst.png"),
    ("ablation",): (
        ["qgface1", "--only=A", "--seeds=0", "--workdir=W/table", *SMALL],
        "table/qgface1.md",
    ),
    ("completion",): (["bash"], None),
}  # fmt: skip


def every_command():
    """The words of each command, and of each thing that it does."""
    for name in COMMANDS:
        parser = argparse.ArgumentParser()
        COMMANDS[name].add_arguments(parser)
        groups = [
            action
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        ]
        yield from ((name, word) for group in groups for word in group.choices)
        if not groups:
            yield (name,)


def test_each_command_has_a_use_here():
    assert sorted(USES) == sorted(every_command())


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `qface` of an environment with the wheel, and a folder with what it takes."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("qface_jax", "configs", "data_pipelines", "launch"):
        shutil.copytree(ROOT / name, folder / "tree" / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "tree")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
             "--quiet", f"--wheel-dir={folder}", str(folder / "tree")]  # fmt: skip
    subprocess.run(build, check=True)
    shutil.rmtree(folder / "tree")
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A path on a line: what the folder's own .pth files say is not followed.
    (packages / "dependencies.pth").write_text(f"{Path(jax.__file__).parents[1]}\n")
    python = folder / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install",
               "--no-deps", "--quiet", "--no-index", str(wheel)]  # fmt: skip
    subprocess.run(install, check=True)
    people = write_people(folder / "people")
    onnx.save(model(NETWORK, batch=1, side=112), folder / "network.onnx")
    points = "38,52,74,52,56,72,42,92,71,92"
    lines = [f"{file.relative_to(people)},{points}\n" for file in people.rglob("*.png")]
    (folder / "points.csv").write_text("".join(lines))
    (folder / "home").mkdir()
    return folder / "env" / "bin" / "qface", folder


def run(installed, *command):
    qface, folder = installed
    text = [
        word.replace("RUN", f"{folder}/run").replace("W/", f"{folder}/")
        for word in command
    ]
    kept = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    # The virtual devices and the compiled programs of the tests save minutes.
    environment |= {"HOME": str(folder / "home"), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [qface, *text], cwd="/", env=environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip


def test_the_package_is_that_of_the_wheel(installed):
    _, folder = installed
    code = "import qface_jax, qface_jax.launch.main as m; print(m.__file__)"
    done = subprocess.run(
        [folder / "env" / "bin" / "python", "-c", code], cwd="/",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(folder / "env") in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", USES, ids=" ".join)
def test_it_says_what_it_does(installed, command):
    done = run(installed, *command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: qface {command[0]}")


@pytest.mark.slow
@pytest.mark.parametrize("command", USES, ids=" ".join)
def test_it_works(installed, command):
    if command != ("train",) and not (installed[1] / "run" / "config.json").is_file():
        trained = run(installed, "train", *USES[("train",)][0])
        assert trained.returncode == 0, trained.stderr
    arguments, file = USES[command]
    done = run(installed, *command, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    if file is not None:
        assert (installed[1] / file).stat().st_size > 0
