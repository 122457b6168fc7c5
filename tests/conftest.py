"""Strict settings for every test: 8 virtual CPU devices, nothing implicit."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from qface_jax.launch import backend

# Compiling is two thirds of the tests' time, and a third of that is the newer form of
# XLA's code for fused operations. The tests do without it, except with --all of
# launch/test.sh; the processes that they start compile as they do for users.
COMPILES_FASTER = "--xla_cpu_use_fusion_emitters=false"
GIVEN_FLAGS = os.environ.get("XLA_FLAGS")
backend.prepare()  # what the console command sets before JAX and TensorFlow load
if "QFACE_TESTS_COMPILE_FULLY" not in os.environ and backend.cpu_flag() is not None:
    os.environ["XLA_FLAGS"] += f" {COMPILES_FASTER}"

# Many tests compile the same small programs, and so do the processes they start. Those
# have a folder of their own, since one that is killed may leave half an entry.
PROGRAMS = Path(tempfile.mkdtemp(prefix="qface-xla-"))
atexit.register(shutil.rmtree, PROGRAMS, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(PROGRAMS / "started")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_compilation_cache_dir", str(PROGRAMS / "here"))
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

jax.devices()  # now XLA_FLAGS is read
if GIVEN_FLAGS is None:
    os.environ.pop("XLA_FLAGS", None)  # processes set it again
else:
    os.environ["XLA_FLAGS"] = GIVEN_FLAGS

# Shapes in the kernels' signatures are checked in the tests, and only there.
install_import_hook("qface_jax.losses", "beartype.beartype")


@pytest.hookimpl(tryfirst=True)  # before the slow tests are deselected
def pytest_collection_modifyitems(items):
    """Files with a test that takes minutes go first: several workers end together."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden():
    """Loads a recording of the published code by name."""
    import numpy as np

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


@pytest.fixture(scope="session")
def faces_dir():
    """The folder of real photographs; tests that need it are skipped without it."""
    default = Path(__file__).parents[2] / "shared" / "faces"
    folder = Path(os.environ.get("QFACE_FACES", default))
    if not (folder / "faces_lfw" / "train.rec").is_file():
        pytest.skip(
            "no real faces: set QFACE_FACES to a folder with faces_lfw/train.rec "
            "and .idx, aligned 112 x 112 crops as insightface publishes them"
        )
    return folder


@pytest.fixture(scope="session")
def toy():
    """The toy pairs, their embedding, an evaluation and a run folder of them."""
    from support.toy_evaluation import TOY

    return TOY


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A small run that nothing disturbed: its folder, config and results."""
    from qface_jax.train import loop
    from support.small_run import small

    run = tmp_path_factory.mktemp("whole") / "run"
    config = small("log.pictures=True")
    with jax.numpy_dtype_promotion("standard"):
        return run, config, loop.train(config, run)


@pytest.fixture(scope="session")
def model_run(tmp_path_factory):
    """The folder of a small run with a result; tests do not write into it."""
    from support.model_in_use import write_run

    return write_run(tmp_path_factory.mktemp("model_run") / "run")


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A folder with a folder of images for each of five people; read-only likewise."""
    from support.model_in_use import write_people

    return write_people(tmp_path_factory.mktemp("people") / "people")
