"""A calibration is of the model itself: its run, moved or not, or its file."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from qface_jax.api.calibrating import calibration_of
from qface_jax.api.model import Model
from qface_jax.errors import ConfigError
from qface_jax.runs import run_folder
from support.small_run import small


@pytest.fixture
def result(model_run):
    return model_run / "eval" / "synthetic.json"


def model(path, step=3):
    return Model(SimpleNamespace(step=step), path=path)


def copied(result, folder, path):
    """The result as if what lies at `path` had been evaluated."""
    run = result.parent.parent
    for ending in (".json", ".npz"):
        content = result.with_suffix(ending).read_bytes()
        content = content.replace(
            f'"path": "{run}"'.encode(), f'"path": "{path}"'.encode()
        )
        (folder / "eval").mkdir(parents=True, exist_ok=True)
        (folder / "eval" / f"set{ending}").write_bytes(content)
    return folder / "eval" / "set.json"


def test_of_a_run(model_run, result, tmp_path):
    assert calibration_of(model(model_run), result).set == "synthetic"
    moved = copied(result, tmp_path / "run", Path("/somewhere/else"))
    assert calibration_of(model(tmp_path / "run"), moved).sides == [112, 14]
    with pytest.raises(
        ConfigError, match="is an evaluation of /somewhere/else, not of"
    ):
        calibration_of(model(model_run), moved)
    with pytest.raises(ConfigError, match="of step 3, the model is of step 5; give"):
        calibration_of(model(model_run, step=5), result)


def test_of_a_file(result, tmp_path):
    file, run = tmp_path / "model.onnx", tmp_path / "run"
    facts = {"file": str(file)}
    run_folder.write_imported(run, small(), num_classes=0, imported=facts)
    path = copied(result, tmp_path / "results", run)
    assert calibration_of(model(file, step=None), path).flip
    with pytest.raises(
        ConfigError, match=r"`qface import .*/other\.onnx RUN` and `qface"
    ):
        calibration_of(model(tmp_path / "other.onnx", step=None), path)
