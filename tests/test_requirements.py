"""The lock files against the ranges of pyproject.toml, and the page of licences."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"run": [], "dev": ["dev"], "docs": ["docs"], "tpu-plan": ["tpu-plan"]}


def entries(name):
    """Each locked requirement of a file with the lines of its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "")
    for line in text.splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        yield Requirement(requirement), hashes


@pytest.mark.parametrize("name", EXTRAS)
def test_every_locked_release_is_exact_and_hashed(name):
    found = list(entries(name))
    assert len(found) > 80
    for requirement, hashes in found:
        operators = [part.operator for part in requirement.specifier]
        assert operators == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes)


@pytest.mark.parametrize("name", EXTRAS)
def test_what_is_declared_is_locked_within_its_range(name):
    """Else run launch/lock.sh."""
    releases = {}
    for requirement, _ in entries(name):
        (pin,) = requirement.specifier
        releases.setdefault(requirement.name, []).append(pin.version)
    declared = list(PROJECT["dependencies"])
    for extra in EXTRAS[name]:
        declared += PROJECT["optional-dependencies"][extra]
    for line in declared:
        wanted = Requirement(line)
        assert wanted.name in releases, f"{line}: not in requirements/{name}.txt"
        for release in releases[wanted.name]:
            assert wanted.specifier.contains(release), (line, release)


def test_the_files_agree_on_each_release():
    dev = {}
    for requirement, _ in entries("dev"):
        dev.setdefault(requirement.name, set()).add(str(requirement.specifier))
    for name in ("run", "docs", "tpu-plan"):
        for requirement, _ in entries(name):
            if requirement.name in dev:
                assert str(requirement.specifier) in dev[requirement.name]


def test_the_page_of_licences_is_what_its_script_writes():
    """Else run `python docs/licences.py > docs/licences.md`."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the page is of the releases for Python 3.11")
    script = ROOT / "docs" / "licences.py"
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "docs" / "licences.md").read_text()


def test_every_declared_dependency_is_imported():
    names = {
        "array-record": "array_record",
        "ml-collections": "ml_collections",
        "orbax-checkpoint": "orbax",
        "pillow": "PIL",
        "tensorflow-cpu": "tensorflow",
        "tensorflow-datasets": "tensorflow_datasets",
    }
    # Others import these without declaring them: said beside each in pyproject.toml.
    missing_elsewhere = {"importlib-resources", "tensorboard"}
    code = "\n".join(
        path.read_text()
        for folder in ("qface_jax", "configs", "data_pipelines", "launch")
        for path in (ROOT / folder).rglob("*.py")
    )
    for line in PROJECT["dependencies"]:
        name = Requirement(line).name
        module = names.get(name, name)
        is_imported = re.search(rf"^\s*(import|from) {module}\b", code, re.MULTILINE)
        assert bool(is_imported) != (name in missing_elsewhere), name
