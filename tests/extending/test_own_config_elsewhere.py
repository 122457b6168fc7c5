"""A config file with modules beside it: trained from one folder, judged elsewhere."""

import json
import os
import subprocess
import sys

CONFIG = """
from my_numbers import STEPS
from qface_jax.configs import demo


def get_config():
    config = demo.demo()
    config.total_steps = STEPS
    config.loss.margin = "my_margin:slight"
    return config
"""
MARGIN = """
from my_numbers import DEFAULT
from qface_jax.losses.margins.margin import Margin, MarginEntry, unchanged_eps
from qface_jax.options import SHARE, Option


def build(margin):
    return Margin(lambda cos_y, norms, state: cos_y - margin, unchanged_eps)


slight = MarginEntry(build, {"margin": Option(DEFAULT, SHARE, "taken off")})
"""
SMALL = (
    "model.backbone=tiny", "model.embedding_dim=16", "data.batch_size=16",
    "data.synthetic.identities=12", "data.synthetic.images_per_identity=4",
    "optim.warmup_steps=0", "eval.synthetic.pairs=20", "eval.resolutions=(112,)",
    "eval.sets=()", "log.pictures=False",
)  # fmt: skip


def qface(folder, *words):
    command = [sys.executable, "-m", "qface_jax.launch.main", *map(str, words)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_run_knows_where_its_code_is(tmp_path):
    for name in ("lab", "here", "there"):
        (tmp_path / name).mkdir()
    lab, run = tmp_path / "lab", tmp_path / "run"
    (lab / "my_numbers.py").write_text("STEPS, DEFAULT = 2, 0.3\n")
    (lab / "my_config.py").write_text(CONFIG)
    (lab / "my_margin.py").write_text(MARGIN)
    words = [f"--config.{word}" for word in SMALL]
    command = ["train", f"--config={lab / 'my_config.py'}", f"--workdir={run}", *words]
    done = qface(tmp_path / "here", *command)
    assert done.returncode == 0, done.stderr
    facts = json.loads((run / "config.json").read_text())
    assert str(lab) in facts["code_folders"]

    evaluate = ["eval", f"--checkpoint={run}", "--config.eval.sets=('synthetic',)"]
    done = qface(tmp_path / "there", *evaluate)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "or give --trust-code" in done.stderr
    done = qface(tmp_path / "there", *evaluate, "--trust-code")
    assert done.returncode == 0, done.stderr
    assert (run / "eval" / "synthetic.json").is_file()

    (lab / "my_margin.py").unlink()
    done = qface(tmp_path / "there", *evaluate, "--trust-code")
    assert done.returncode == 2
    assert "No module named 'my_margin'; the folder of a module" in done.stderr
    assert str(lab) in done.stderr.splitlines()[-1]
