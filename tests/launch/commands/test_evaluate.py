"""`qface eval` with other settings: a file of its own, and no other one is touched."""

import json
import re
import shutil

import pytest

from qface_jax.evals import results
from qface_jax.launch import main


@pytest.fixture(scope="module")
def run(whole_run, tmp_path_factory):
    return shutil.copytree(whole_run[0], tmp_path_factory.mktemp("eval") / "run")


def contents(run):
    """File -> content, of all results."""
    return {path.name: path.read_bytes() for path in (run / "eval").iterdir()}


def evaluate(run, capsys, *words):
    """Evaluates; returns the file of the result and what was printed."""
    command = ["eval", f"--checkpoint={run}", *words]
    assert main.main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    (path,) = re.findall(r"^result: (.*\.json)$", said, re.MULTILINE)
    return path, said


def test_other_settings_replace_no_result(run, capsys):
    before = contents(run)
    assert set(before) == {"synthetic.json", "synthetic.npz"}
    path, said = evaluate(run, capsys, "--config.eval.flip=False")
    name = path.rpartition("/")[2]
    assert re.fullmatch(r"synthetic\.verification-[0-9a-f]{8}\.json", name)
    assert "  with eval.flip: false (the run's own: true); the result with" in said
    after = contents(run)
    assert before.items() < after.items()
    assert set(after) - set(before) == {name, name.replace(".json", ".npz")}
    written = json.loads(after[name])
    assert written["changed"] == {"eval.flip": {"got": False, "run": True}}
    assert written["settings"]["eval.flip"] is False
    assert written["manifest"]["flip"] is False

    # The same again, whatever changes no number, is the same file.
    again, _ = evaluate(
        run, capsys, "--config.eval.flip=false", "--config.eval.batch_size=32"
    )
    assert again == path
    assert contents(run).keys() == after.keys()
    assert before.items() < contents(run).items()
    best, said = evaluate(run, capsys, "--which=best")
    assert best not in (path, str(run / "eval" / "synthetic.json"))
    assert 'with which: "best" (the run\'s own: "last")' in said


def test_the_runs_own_settings_replace_the_runs_own_result(run, capsys, whole_run):
    usual = results.read(run / "eval" / "synthetic.json")
    before = contents(run)
    path, said = evaluate(run, capsys, "--config.eval.batch_size=32")
    assert path == str(run / "eval" / "synthetic.json")
    assert "the run's own" not in said
    result = results.read(path)
    assert result.changed == {} and result.settings == usual.settings
    assert result.config_hash == usual.config_hash
    assert result.checkpoint["which"] == "last"
    others = {name for name in before if not name.startswith("synthetic.json")}
    assert {name: before[name] for name in others - {"synthetic.npz"}}.items() <= (
        contents(run).items()
    )


def test_the_report_lists_all_results(run, capsys):
    evaluate(run, capsys, "--config.eval.flip=False")
    assert main.main(["report", str(run)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(run / "report.html")
    rows = [re.split(r"  +", line.strip()) for line in printed[2:-1]]
    assert len(rows) == len(results.paths(run)) > 1
    by_file = {row[-1]: row for row in rows}
    assert rows[0][-1] == "synthetic.json" and rows[0][-2] == "none"
    (flipped,) = [row for row in rows if "eval.flip: false" in row[-2]]
    assert flipped[:3] == ["synthetic", "verification", "6"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", flipped[3])
    assert re.fullmatch(r"mean, cross-resolution [\d.]+ %", flipped[4])
    page = (run / "report.html").read_text()
    for file in by_file:
        assert file in page
    assert "eval.flip: false (the run&#39;s own: true)" in page


def test_error_versus_discard_is_of_the_named_result(run, capsys):
    path, _ = evaluate(run, capsys, "--config.eval.flip=False")
    name = path.rpartition("/")[2].removesuffix(".json")
    assert main.main(["quality", "erc", str(run), f"--set={name}"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[:2] == [
        "synthetic, step 6", "with eval.flip: false (the run's own: true)"
    ]  # fmt: skip
    assert main.main(["quality", "erc", str(run), "--set=synthetic"]) == 0
    both = capsys.readouterr().out
    assert said in both and both.count("synthetic, step 6") == len(results.paths(run))
