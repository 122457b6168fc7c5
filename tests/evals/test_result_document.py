"""Results edited by hand: every value's type and range is checked, and named."""

import json

import pytest

from qface_jax.errors import DataError
from qface_jax.evals import result_document, results, text_table


@pytest.fixture
def path(toy, tmp_path):
    return results.write(tmp_path, toy.evaluate())


def edited(path, place, value):
    *groups, key = place.split(".")
    document = json.loads(path.read_text())
    part = document
    for name in groups:
        part = part[int(name) if isinstance(part, list) else name]
    part[int(key) if isinstance(part, list) else key] = value
    path.write_text(json.dumps(document))


DEEP = {"a": 1}
for _ in range(100):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("format", "2", "another version of qface: format 2"),
        ("format", None, "format None"),
        ("format", 10**400, "another version"),
        ("set", None, "set: got None, expected a text"),
        ("scalars", [], "scalars: got a list of 0, expected a group"),
        ("scalars", {"a": "x"}, "scalars.a: got 'x', expected a finite number"),
        ("scalars", {"a": True}, "scalars.a: got True"),
        ("scalars", {"a": float("nan")}, "scalars.a: got nan"),
        ("scalars", {"a": float("inf")}, "scalars.a: got inf"),
        ("scalars", {"a": 10**400}, r"scalars.a: got 1000.* \(401 characters\)"),
        ("tables", {}, "tables: got a group of 0, expected a list"),
        ("tables.0.columns", [], r"tables\[0\]: has no columns"),
        ("tables.0.columns.0.format", "hex", "got 'hex', must be one of text, perc"),
        ("tables.0.columns.0.width", 3, r"tables\[0\].columns\[0\].width: unknown key"),
        ("tables.0.rows.0", [], "has 0 cells of"),
        ("tables.0.rows.0", "text", r"tables\[0\].rows\[0\]: got 'text', expected a l"),
        ("tables.0.rows.0.1", {"a": 1}, "got a group of 1 in a column of"),
        ("headlines.0.format", "hex", "must be one of"),
        ("headlines.0", {"label": "a"}, r"headlines\[0\].scalar: is missing"),
        ("series.0.x", [1.0], "its lists are of"),
        ("series.0.labels", "text", r"series\[0\].labels: got 'text', expected a list"),
        ("series.0.spreads", ["x"], "expected a finite number or null"),
        ("curves.0.lines.0.y", 3, "expected a list or a text"),
        ("curves.0.lines.0.y", ["a"], "expected a finite number"),
        ("examples", [{"group": "a", "score": 1.0, "images": [1.5]}], "whole number"),
        ("changed", {"a": {"got": 1}}, "changed.a: expected got and run"),
        ("checkpoint", {"step": "six"}, "checkpoint.step: expected a whole number"),
        ("checkpoint", {"step": -6}, "checkpoint.step: expected a whole number"),
        ("checkpoint", [], "checkpoint: got a list of 0, expected a group"),
        ("manifest", {"a": 10**400}, "manifest.a: got 1000"),
        ("manifest", DEEP, "nested too deeply"),
        ("details", None, "details: got None, expected a group"),
        ("versions", {"jax": 3}, "versions.jax: got 3, expected a text"),
        ("date", 3, "date: got 3, expected a text"),
        ("images_per_second", "fast", "images_per_second: got 'fast'"),
        ("arrays", {}, "arrays: unknown key"),
        ("__class__", "str", "__class__: unknown key"),
    ],
)
def test_each_value_is_checked(path, place, value, says):
    edited(path, place, value)
    with pytest.raises(DataError, match=says) as error:
        results.read(path)
    assert "run qface eval again" in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("field", ["set", "scalars"])
def test_what_is_missing_is_named(path, field):
    document = json.loads(path.read_text())
    del document[field]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"{field}: is missing"):
        results.read(path)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**4, "3", "null", "[]"])
def test_what_is_no_group_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(DataError, match="cannot be read"):
        results.read(path)


def test_a_file_of_any_size_is_not_read(path, monkeypatch):
    monkeypatch.setattr(result_document, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="expected at most 100"):
        results.read(path)


def test_every_format_of_a_cell_has_its_values():
    assert result_document.CELLS.keys() == text_table.FORMATS.keys()
    values = {"text": 3, "percents": [0.5, 0.1]}
    for form, fits in result_document.CELLS.items():
        value = values.get(form, 0.5)
        assert fits(value) and text_table.cell(value, form)
