"""The benchmarks of each paper in one call, with a real network on the miniatures.

What they score is compared in test_mini_benchmarks; here they stand side by side.
"""

import json
import os
import re
from pathlib import Path

import pytest

from qface_jax.configs import adaface
from qface_jax.launch import main
from support.mini_benchmarks import PROTOCOLS, joined

WEIGHTS = Path(os.environ.get("QFACE_WEIGHTS", PROTOCOLS.parent / "weights"))
LFW = [name.removesuffix(".bin") for name in adaface.LFW_FAMILY]
RESULTS = {
    "eval_adaface": [*LFW, "IJBB", "IJBC", "tinyface_aligned"],
    "eval_qgface": [*LFW, "IJBB", "tinyface_aligned", "scface"],
    "eval_octuplet": [*LFW, "cfp_ff", "pair_SLLFW", "xqlfw"],
    "eval_recognizability": ["tinyface_aligned", "scface", "survface"],
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    weights = WEIGHTS / "mobilefacenet_faceplugin.onnx"
    if not weights.is_file():
        pytest.skip(f"no network {weights}: set QFACE_WEIGHTS to its folder")
    run = tmp_path_factory.mktemp("runs") / "faceplugin"
    words = ["import", str(weights), str(run), "--preprocess=faceplugin"]
    assert main.main(words) == 0
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    files = (*adaface.LFW_FAMILY, "cfp_ff.bin")
    return joined(tmp_path_factory.mktemp("sets") / "all", files, few=10)


@pytest.mark.parametrize("config", RESULTS)
def test_every_benchmark_of_a_paper(run, folder, config, capsys):
    words = [
        "eval",
        f"--checkpoint={run}",
        f"--config={config}",
        f"--config.eval.path={folder}",
        "--config.eval.batch_size=32",
        "--config.eval.resolutions=(112,14)",
    ]
    assert main.main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    for name in RESULTS[config]:
        # Other sides than the run's own: those that read them have their own file.
        match = re.search(rf"result: (.*/{name}(\.\w+-\w{{8}})?\.json)$", said, re.M)
        path = Path(match.group(1))
        result = json.loads(path.read_text())
        assert result["status"] == "ok" and result["best"] in result["scalars"]
    assert said.count("result: ") == len(RESULTS[config])
