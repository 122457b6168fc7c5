"""Each script of examples/ runs as it stands."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

from support.small_run import SMALL
from support.user_types import types_as_users_have_them  # noqa: F401

EXAMPLES = Path(__file__).parents[2] / "examples"
# Smaller than the demo, for the time it takes to compile.
WORDS = [word for word in SMALL if not word.startswith("model.backbone")]
TINY = [*WORDS, "model.backbone=tiny"]


@pytest.fixture
def example(monkeypatch, capsys):
    def run(name, *words):
        path = EXAMPLES / name
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_quickstart(example, model_run, people):
    said = example("quickstart.py", model_run, people)
    assert "15 of 16 images, features of 16" in said
    assert said[2].startswith("  p0/text.jpg: not_an_image, ")
    assert "nan" not in "\n".join(said)


def test_own_loop(example, people, tmp_path):
    shutil.copytree(people, tmp_path / "people")
    said = example("own_loop.py", tmp_path / "people", 2, *TINY)
    assert said[0].startswith("step 1: loss ")
    assert said[1].startswith("mean cosine, one person: ")


def test_own_margin(example):
    said = example("own_margin.py", *TINY)
    assert [line.split(":")[0] for line in said] == ["step 1", "step 2", "step 3"]


def test_own_backbone(example):
    said = example("own_backbone.py", *WORDS)
    assert said[-1] == "features: (2, 16)"


def test_deploy_onnx(example, model_run, people, tmp_path):
    from qface_jax.launch import main

    model = tmp_path / "face.onnx"
    assert main.main(["export", str(model_run), str(model)]) == 0
    photographs = people / "p0" / "0.png", people / "p0" / "1.png"
    said = example("deploy_onnx.py", model, *photographs)[-2:]
    assert 0.5 < float(said[0].removeprefix("similarity: ")) <= 1
    assert said[1].startswith("quality: ")


def test_each_example_is_tested():
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in here
