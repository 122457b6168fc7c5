"""The README's commands exist, and what it points to is there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from qface_jax.launch import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
COMMANDS = [line for line in BLOCKS.splitlines() if line.startswith("qface ")]


def test_it_shows_the_two_commands():
    assert "bash launch/demo.sh" in BLOCKS
    assert "bash launch/test.sh" in BLOCKS
    assert len(README.splitlines()) < 120


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_understood(line):
    name, args = main._parse(shlex.split(line)[1:])
    assert name in main.COMMANDS
    assert args is not None


def test_each_path_is_there():
    paths = re.findall(
        r"`((?:qface_jax|configs|launch|tests|benchmarks)/[\w/.]+)`", README
    )
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path


def test_each_table_it_names_exists():
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("qface_jax", "data_pipelines", "configs")
        for path in (ROOT / folder).rglob("*.py")
    )
    for table in re.findall(r"`([A-Z]{5,})`", README):
        assert re.search(rf"^{table}\b.*= ", code, re.MULTILINE), table


@pytest.mark.parametrize(
    "script",
    ["demo.sh", "test.sh", "docs.sh", "local.sh", "tpu_vm.sh", "ablation.sh"],
)
def test_scripts_say_what_they_do(script):
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / script), "--help"],
        cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"bash launch/{script}" in done.stdout
