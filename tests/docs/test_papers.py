"""The page on the papers: its commands are understood, its configs are valid."""

import re
import shlex
from pathlib import Path

import pytest

from qface_jax.configs.ablations import ABLATIONS
from qface_jax.launch import main
from qface_jax.settings import config as configs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`]+)`", PAGE)
COMMANDS = sorted({code for code in CODE if re.match(r"qface \w+ .*\S", code)})
NAMED = {code for code in CODE if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", code)}
CONFIGS = sorted(NAMED | set(re.findall(r"--config=(\w+)", PAGE)))


def loaded(name, changes=()):
    drawn = configs.shipped()[name]().data.source == "synthetic"
    return configs.load(name, [*changes, *["--config.data.path=DIR"] * (not drawn)])


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_understood(line):
    name, _ = main._parse(shlex.split(line)[1:])
    assert name in main.COMMANDS


@pytest.mark.parametrize("line", [line for line in COMMANDS if "config=" in line])
def test_its_overrides_are_those_of_its_config(line):
    words = shlex.split(line)
    named = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    changes = [word for word in words if word.startswith("--config.")]
    for name in named:
        assert loaded(name, changes).is_locked


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_is_valid(name):
    assert loaded(name).is_locked


def test_each_ablation_is_there():
    for name in ABLATIONS:
        assert f"qface ablation {name} --size=paper" in PAGE
