"""The demo, as a newcomer runs it: minutes, so only with `launch/test.sh --all`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_learns_and_falls_with_resolution(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "launch" / "demo.sh"), str(tmp_path)],
        cwd="/", capture_output=True, text=True, timeout=1500,
        env=os.environ | {"QFACE_VENV": sys.prefix},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = tmp_path / "demo" / "report.html"
    assert f"report: {report}" in done.stdout
    assert report.stat().st_size > 100_000
    result = json.loads((tmp_path / "demo" / "eval" / "synthetic.json").read_text())
    accuracy = {side: result["scalars"][f"cross_{side}"] for side in (112, 14, 7)}
    assert [series["x"] for series in result["series"]] == [[112, 56, 28, 14, 7]] * 2
    # Chance is 0.5; ten folds of 60 pairs spread by some points.
    assert accuracy[112] > 0.85
    assert accuracy[112] > accuracy[14] > accuracy[7]
