"""What a training refuses, and that nothing is lost by it."""

import json
import shutil

import pytest

from qface_jax.errors import ConfigError, UserError
from qface_jax.runs import run_folder
from qface_jax.runs.checkpoint import load_parts, saved_steps
from qface_jax.train import loop
from support.small_run import assert_equal, small


def test_another_config_is_refused_unless_allowed(whole_run, tmp_path):
    run, _, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    changed = small("optim.learning_rate=0.3", "total_steps=8")
    with pytest.raises(ConfigError) as error:
        loop.train(changed, tmp_path / "run")
    assert "optim.learning_rate: was 0.1, now 0.3" in str(error.value)
    assert "total_steps: was 6, now 8" in str(error.value)
    loop.train(changed, tmp_path / "run", allow_config_change=True)
    assert saved_steps(tmp_path / "run")["last"] == 8
    assert run_folder.read(tmp_path / "run").config.total_steps == 8


def test_a_checkpoint_of_another_model_is_refused(whole_run, tmp_path):
    run, _, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(ConfigError, match="another model") as error:
        loop.train(
            small("model.embedding_dim=32"), tmp_path / "run", allow_config_change=True
        )
    assert "params/head/centres: float32[512, 16] saved, float32[512, 32]" in str(
        error.value
    )


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not the folder of a run"):
        loop.train(small(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    with run_folder.lock(tmp_path), pytest.raises(ConfigError, match="another qface"):
        loop.train(small(), tmp_path)
    assert saved_steps(tmp_path)["last"] is None


def test_fewer_steps_than_done_are_refused(whole_run, tmp_path):
    run, _, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"has done 6 steps, the config asks for 4"):
        loop.train(small("total_steps=4"), tmp_path / "run", allow_config_change=True)


def test_a_damaged_checkpoint_is_named(whole_run, tmp_path):
    run, config, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints" / "6").rglob("*"):
        if file.is_file() and file.stat().st_size > 100:
            file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(
        UserError, match=r"checkpoints/6: checkpoint is damaged"
    ) as error:
        loop.train(config, tmp_path / "run")
    assert "to go on from step 3" in str(error.value)
    with pytest.raises(UserError, match="damaged"):
        load_parts(tmp_path / "run", "last", ("stats",))


def test_a_run_falls_back_only_if_asked_and_logs_it(whole_run, tmp_path, capsys):
    run, config, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    whole = load_parts(run, "last", ("params", "opt_state"))
    arrays = tmp_path / "run" / "checkpoints" / "6" / "state"
    largest = max(arrays.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    with pytest.raises(UserError, match="not as saved, by the digest") as error:
        loop.train(config, tmp_path / "run")
    for part in ("checkpoints/6: ", "step 3", "checkpoint.fall_back=True"):
        assert part in str(error.value)
    falling = small("checkpoint.fall_back=True")
    loop.train(falling, tmp_path / "run", allow_config_change=True)
    assert "warning: " in capsys.readouterr().err
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [line for line in map(json.loads, log) if "fell_back_from_step" in line]
    assert [(e["step"], e["fell_back_from_step"]) for e in logged] == [(3, 6)]
    again = load_parts(tmp_path / "run", "last", ("params", "opt_state"))
    assert again[0] == whole[0]
    assert_equal(again[1], whole[1])


def test_a_run_whose_checkpoints_were_moved_away_is_refused(whole_run, tmp_path):
    run, config, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError) as error:
        loop.train(config, tmp_path / "run")
    assert "log ends at step 6" in str(error.value)
    assert f"put them back into {tmp_path}/run/checkpoints" in str(error.value)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "elsewhere").rename(tmp_path / "run" / "checkpoints")
    loop.train(config, tmp_path / "run")


def test_other_data_under_the_same_name_is_refused(whole_run, tmp_path):
    run, _, _ = whole_run
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(ConfigError, match="48 training images, the data has 60"):
        loop.train(
            small("data.synthetic.images_per_identity=5"),
            tmp_path / "run",
            allow_config_change=True,
        )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("eval.folds=1000",), "folds"),
        (("eval.sets=('synthetic','synthetic')",), "the same result files"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_training(words, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        loop.train(small(*words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_space_is_said_before_anything_is_written(whole_run, tmp_path, monkeypatch):
    _, config, _ = whole_run
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="no space for a checkpoint"):
        loop.train(config, tmp_path / "run")
    assert saved_steps(tmp_path / "run")["last"] is None
