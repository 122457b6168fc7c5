"""The driver that runs the commands on hostile files, on a few of them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.recordio_writer import jpeg

DRIVER = Path(__file__).parents[2] / "benchmarks" / "hostile_inputs.py"


@pytest.fixture(scope="module")
def driver():
    spec = importlib.util.spec_from_file_location("hostile_inputs", DRIVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = 300_000_000


@pytest.mark.parametrize(
    ("kind", "status", "seconds", "size", "out", "err"),
    [
        ("passed", 0, 1.0, GOOD, "all well\n", ""),
        ("counted", 0, 1.0, GOOD, "  broken: 3\n", ""),
        ("counted", 0, 1.0, GOOD, "6 images, 1 skipped\n", ""),
        ("refused", 2, 1.0, GOOD, "", "reading\nqface import: error: no\n  more\n"),
        ("crash", 2, 1.0, GOOD, "", "usage: qface\n"),
        ("crash", 1, 1.0, GOOD, "", ""),
        ("crash", -11, 1.0, GOOD, "", ""),
        ("traceback", 1, 1.0, GOOD, "", "Traceback (most recent call last):\n"),
        ("noisy", 2, 1.0, GOOD, "", "qface data: error: a\x1b[31m.jpg\n"),
        ("noisy", 0, 1.0, GOOD, "a\x07\n", ""),
        ("memory", 2, 1.0, GOOD + 1_100_000_000, "", "qface: error: no\n"),
        ("hang", -9, 91.0, GOOD, "", ""),
    ],
)
def test_how_a_run_ended(driver, kind, status, seconds, size, out, err):
    run = driver.Run("file", "import", [])
    outcome = driver.judged(run, GOOD, 90.0, status, seconds, size, out, err)
    assert outcome.kind == kind
    assert (kind in driver.BAD) == (kind not in ("passed", "counted", "refused"))


@pytest.mark.slow
def test_a_folder_of_hostile_files(tmp_path):
    root = tmp_path / "hostile"
    for person in ("ann", "bob"):
        (root / "set" / person).mkdir(parents=True)
        (root / "set" / person / "a.jpg").write_bytes(jpeg(len(person)))
        (root / "set" / person / "b.jpg").write_bytes(jpeg(0)[:500])
    (root / "a.onnx").write_bytes(b"\xff\xfe no protobuf")
    (root / "w.pt").write_bytes(b"\x80\x02Nr\xf0\xff\xff\xff.")
    (root / "pairs.txt").write_text("p01 1 2\n" + "9" * 5000 + "\n")
    words = [sys.executable, str(DRIVER), str(root), f"--json={tmp_path / 'all.json'}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads((tmp_path / "all.json").read_text())
    kinds = {(one["file"], one["command"]): one["kind"] for one in outcomes}
    assert kinds == {
        ("a.onnx", "import"): "refused",
        ("w.pt", "import"): "refused",
        ("pairs.txt", "inspect ::good"): "refused",
        ("pairs.txt", "eval ::good"): "refused",
        ("set", "inspect"): "counted",
        ("set", "import set"): "refused",
        ("set", "import set, skip"): "counted",
        ("set", "score"): "counted",
    }
    assert "all" in done.stdout.splitlines()[-1]
