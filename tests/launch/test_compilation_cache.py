"""Compiled programs stay between commands, in a folder that does not grow."""

import os
import shutil
import subprocess
import sys

import pytest

from qface_jax.launch import compilation_cache
from qface_jax.launch.compilation_cache import ENABLED, FOLDER


@pytest.fixture
def own_caches(monkeypatch, tmp_path):
    """A user's cache folder of this test, and nothing set."""
    for name in (FOLDER, ENABLED, compilation_cache.SHORTEST):
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def test_programs_are_kept_in_the_users_cache_folder(own_caches):
    compilation_cache.prepare()
    folder = compilation_cache.cache_folder()
    assert os.environ[FOLDER] == str(folder)
    assert folder.is_dir() and own_caches in folder.parents
    assert folder.stat().st_mode & 0o077 == 0


def test_what_the_user_has_set_stays(own_caches, monkeypatch):
    monkeypatch.setenv(FOLDER, "gs://elsewhere")
    compilation_cache.prepare()
    assert os.environ[FOLDER] == "gs://elsewhere"
    assert not list(own_caches.iterdir())


@pytest.mark.parametrize("value", ["False", "0", "off"])
def test_it_can_be_switched_off(own_caches, monkeypatch, value):
    monkeypatch.setenv(ENABLED, value)
    compilation_cache.prepare()
    assert FOLDER not in os.environ
    assert not list(own_caches.iterdir())


def test_nothing_is_kept_where_the_folder_cannot_be_made(own_caches, monkeypatch):
    (own_caches / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_caches / "file"))
    compilation_cache.prepare()
    assert FOLDER not in os.environ


def test_another_processor_or_release_has_another_folder(
    own_caches, monkeypatch, tmp_path
):
    here = compilation_cache.cache_folder()
    other = tmp_path / "cpuinfo"
    other.write_text("flags : sse2 avx512f\n")
    monkeypatch.setattr(compilation_cache, "_CPUINFO", other)
    there = compilation_cache.cache_folder()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    assert len({here, there, compilation_cache.cache_folder()}) == 3


def test_what_was_used_longest_ago_is_removed(tmp_path):
    for age, name in enumerate(["a/new", "a/older", "b/oldest"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 500))
    compilation_cache.remove_oldest(tmp_path, 250)
    left = {path.name for path in tmp_path.glob("*/*")}
    assert left == {"new", "older"}


def test_a_resumed_run_compiles_nothing(own_caches):
    run = own_caches / "run"
    settings = {
        "model.backbone": "tiny",
        "model.embedding_dim": 16,
        "data.batch_size": 16,
        "optim.warmup_steps": 0,
        "total_steps": 4,
        "checkpoint.interval": 2,
        "eval.sets": "()",
    }
    words = [f"--config.{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "qface_jax.launch.main", "train"]
    command += ["--config=demo", f"--workdir={run}", *words]

    def train():
        subprocess.run(command, check=True, capture_output=True)
        return {path.name for path in own_caches.rglob("*-cache")}

    def unfinish():
        """Leaves the run as it was after step 2."""
        shutil.rmtree(run / "checkpoints" / "4")

    assert any("jit_train_step" in name for name in train())
    unfinish()
    compiled = train()  # restoring is new
    unfinish()
    assert train() == compiled
