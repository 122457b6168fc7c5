"""`qface eval` on a benchmark: killed and started again, and as two processes.

Real processes on a small IJB-C in its published layout; all start from one run.
"""

import json
import shutil
import signal

import numpy as np
import pytest

from qface_jax.inference import feature_store
from support.ijb_tree import drawn_tree
from support.processes import Processes

SUBJECTS, IMAGES = 20, 50
COUNT = SUBJECTS * 3 * IMAGES
FIRST = feature_store.ROWS
# What says when, where and how fast, not what came out.
ABOUT = ("checkpoint", "date", "images_per_second")
pytestmark = pytest.mark.slow


class Evaluated:
    """A copy of the run, and `qface eval` on it."""

    def __init__(self, run, folder, tree):
        self.run, self._folder, self._tree = folder / "run", folder, tree
        shutil.copytree(run, self.run)

    def start(self, *, processes=1, devices=2):
        """Starts processes; the same number of devices makes the same batches."""
        words = [
            "eval",
            f"--checkpoint={self.run}",
            "--config=eval_ijbc",
            f"--config.eval.path={self._tree}",
            "--config.eval.batch_size=64",
        ]
        said = self._folder / "said"
        return Processes(said, words, count=processes, devices=devices)

    def features(self):
        """File -> content, of the features that are written."""
        found = self.run.glob("features/*/*.npy")
        return {path.name: path.read_bytes() for path in found}

    def result(self):
        """What came out: the file without ABOUT, and the arrays."""
        written = json.loads((self.run / "eval" / "IJBC.json").read_text())
        with np.load(self.run / "eval" / "IJBC.npz") as arrays:
            arrays = {name: arrays[name] for name in arrays.files if name not in ABOUT}
        return {k: v for k, v in written.items() if k not in ABOUT}, arrays


def assert_same(one, other):
    (written, arrays), (wanted, of_wanted) = one, other
    assert written == wanted
    assert arrays.keys() == of_wanted.keys()
    for name, values in of_wanted.items():
        np.testing.assert_array_equal(arrays[name], values, err_msg=name)


@pytest.fixture(scope="module")
def evaluated(whole_run, tmp_path_factory):
    """Name -> a copy of one run, with the benchmark beside it."""
    tree = drawn_tree(tmp_path_factory.mktemp("set"), subjects=SUBJECTS, images=IMAGES)

    def copy(name):
        return Evaluated(whole_run[0], tmp_path_factory.mktemp(name), tree)

    return copy


@pytest.fixture(scope="module")
def undisturbed(evaluated):
    """An evaluation by one process that nothing disturbed."""
    case = evaluated("whole")
    with case.start() as started:
        started.finish()
    return case


def test_killed_in_the_middle_of_embedding_it_goes_on(evaluated, undisturbed):
    case = evaluated("killed")
    with case.start() as started:
        started.wait_until(case.features)
        started.all[0].kill()
        assert started.statuses() == [-signal.SIGKILL]
    kept = case.features()
    rows = sum(len(np.load(path)) for path in case.run.glob("features/*/*.npy"))
    assert FIRST <= rows < COUNT, "killed too late"
    assert not (case.run / "eval" / "IJBC.json").exists()
    with case.start() as started:
        started.finish()
        assert f"features of {rows:,} images are in " in started.said(0)
    assert kept.items() < case.features().items()
    assert case.features() == undisturbed.features()
    assert_same(case.result(), undisturbed.result())


def test_two_processes_are_as_one(evaluated, undisturbed):
    case = evaluated("shared")
    with case.start(processes=2, devices=1) as started:
        started.finish()
        assert started.answered(1) == ""
    assert_same(case.result(), undisturbed.result())
