"""Training on storage that really fails, by the library of the benchmark."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).parents[2] / "benchmarks" / "failing_storage.py"


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="needs LD_PRELOAD and a C compiler",
)
def test_runs_on_failing_storage_end_as_on_good_storage(monkeypatch, capfd):
    spec = importlib.util.spec_from_file_location("failing_storage", DRIVER)
    driver = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "failing_storage", driver)
    spec.loader.exec_module(driver)
    monkeypatch.setattr(sys, "argv", [str(DRIVER), "--steps=20", "--run-rate=0.004"])
    assert driver.main() == 0
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["folder", "array_record", "run"]
    assert all(int(row[1]) + int(row[2]) > 0 for row in rows), "nothing failed"
