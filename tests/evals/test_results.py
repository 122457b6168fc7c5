import dataclasses
import json

import numpy as np
import pytest

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.protocols.verification_rows import rows_of
from qface_jax.evals.text_table import result_text


def test_round_trip(toy, tmp_path):
    result = toy.evaluate()
    path = results.write(tmp_path, result)
    assert path == tmp_path / "eval" / "toy.json"
    again = results.read(path)
    assert again == result
    assert set(again.arrays) == set(result.arrays)
    for name, array in result.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy.json", "toy.npz"]


def test_round_trip_without_numbers(toy, tmp_path):
    result = toy.evaluate(embed=lambda images: np.full((len(images), 4), np.nan))
    path = results.write(tmp_path, result)
    assert "NaN" not in path.read_text().replace(result.message, "").replace(
        result.details["rows"][0]["message"], ""
    )
    assert results.read(path) == result


def test_a_failed_write_keeps_the_old_file(toy, tmp_path):
    result = toy.evaluate()
    path = results.write(tmp_path, result)
    before = path.read_bytes()
    broken = dataclasses.replace(result, checkpoint={"step": float("nan")})
    with pytest.raises(ValueError):
        results.write(tmp_path, broken)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.tmp"))


def test_replace_file_leaves_nothing_aside_when_it_fails(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        results.replace_file(tmp_path / "taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_arrays_of_another_evaluation_are_not_used(toy, tmp_path):
    path = results.write(tmp_path, toy.evaluate())
    old = json.loads(path.read_text()) | {"date": "2001-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(old))
    assert results.read(path).arrays == {}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 1}', '{"format": 99, "date": ""}', '"\ud800"'],
)
def test_unreadable_result(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"x\.json: cannot be read"):
        results.read(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"", b"no archive"])
def test_a_broken_npz_costs_only_the_arrays(toy, tmp_path, content):
    result = toy.evaluate()
    path = results.write(tmp_path, result)
    path.with_suffix(".npz").write_bytes(content)
    assert results.read(path) == result
    assert results.read(path).arrays == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lfw", "lfw.json"),
        ("../a b", "_a_b.json"),
        ("..", "_.json"),
        ("x/y", "x_y.json"),
    ],
)
def test_set_names_stay_inside_the_folder(tmp_path, name, file):
    assert results.result_path(tmp_path, name) == tmp_path / "eval" / file


def test_a_result_of_an_older_version_says_so(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"format": 1, "date": "", "set": "x"}')
    with pytest.raises(DataError, match=r"written by an older .*run qface eval again"):
        results.read(path)


def test_scalars(toy):
    result = toy.evaluate()
    scalars, last = results.scalars(result), rows_of(result)[-1]
    assert scalars["mean_cross"] == result.scalars["mean_cross"]
    assert scalars["cross_7"] == last.cross.accuracy
    assert scalars["same_7"] == last.same.accuracy
    assert scalars["auc_7"] == last.cross.auc
    assert scalars["eer_7"] == last.cross.eer
    roc = next(curve for curve in result.curves if curve.kind == "roc")
    assert roc.lines[-1].note == f"EER {100 * last.cross.eer:.2f} %"
    assert scalars["norm_mean_7"] == last.norms["mean"]
    assert scalars["degenerate"] == 0.0
    broken = toy.evaluate(embed=lambda images: np.full((len(images), 4), np.nan))
    assert results.scalars(broken) == {"degenerate": 1.0}


def test_the_best_is_picked_by_any_scalar(toy):
    result = toy.evaluate()
    assert results.best(result, "") == result.scalars["mean_cross"]
    assert results.best(result, "auc_7") == result.scalars["auc_7"]
    with pytest.raises(ConfigError, match=r"eval.best_metric: got 'rank_1'.*cross_7"):
        results.best(result, "rank_1")
    broken = toy.evaluate(embed=lambda images: np.full((len(images), 4), np.nan))
    assert results.best(broken, "mean_cross") is None


def test_table_is_aligned_and_complete(toy):
    result = toy.evaluate(toy.pairs(pairs=60))
    lines = result_text(result).splitlines()
    assert "60 pairs (30 same, 30 different)" in lines[0]
    header, rule, *rows = lines[2:8]
    assert [row.split()[0] for row in rows] == ["112", "28", "7", rule.split()[0]]
    assert header.split()[-1] == "AUC"
    assert {len(line) for line in (header, rule, *rows[:3])} == {len(rule)}
    cross = 100 * result.scalars["cross_7"]
    assert f"{cross:.2f} ±" in rows[2]
    # The decimal points of the means stand under those of the accuracies.
    mean = lines[8]
    assert mean.index(".") == rows[0].index(".")
    assert "No TAR at FAR 1e-2: needs at least 100 different pairs" in "\n".join(lines)


def test_table_warns(toy):
    result = toy.evaluate(embed=lambda images: np.ones((len(images), 4), np.float32))
    assert "WARNING (collapsed): at 112 px" in result_text(result)
    broken = toy.evaluate(embed=lambda images: np.full((len(images), 4), np.nan))
    assert "WARNING (non_finite)" in result_text(broken)
