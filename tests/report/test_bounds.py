"""A page is made of whatever a run's files hold, in bounded time."""

import dataclasses
import time

import numpy as np

from qface_jax.evals import results
from qface_jax.evals.results import Column, Curve, Headline, Line, Result, Series, Table
from qface_jax.report import bounds, page
from qface_jax.report.results import lines_of


def result(**parts):
    return Result("toy", {"a": 0.5}, best="a", protocol="toy", **parts)


def test_what_is_within_bounds_stays_as_it_is():
    whole = result(
        headlines=[Headline("a", "A")],
        tables=[Table([Column("n", "count")], [[n] for n in range(bounds.ROWS)])],
        curves=[Curve("line", "c", [Line("l", [1.0, 2.0], [1.0, 2.0])])],
    )
    assert bounds.within_bounds([whole]) == [whole]


def test_what_is_left_out_is_said():
    line = Line("l", [1.0], [1.0])
    large = result(
        tables=[Table([Column("n", "count")], [[1]] * 20_000)] * 2,
        curves=[Curve("line", "c", [line])] * 200 + [Curve("line", "d", [line] * 99)],
        series=[Series("s", "S", ["l"] * 999, ["a"] * 999)],
        headlines=[Headline("a", "A")] * 99,
    )
    first, second = bounds.within_bounds([large, large])
    assert [len(table.rows) for table in first.tables] == [bounds.ROWS] * 2
    assert first.tables[0].notes == ["19,000 more rows in the result's file."]
    assert len(first.curves) == bounds.CURVES and second.curves == []
    assert first.series == [] and len(first.headlines) == 40
    (said,) = first.warnings
    for part in ("59 more of 99 headlines", "1 series of too many", "1 curve of too",
                 "140 more of 200 curves"):  # fmt: skip
        assert part in said
    assert large.warnings == []


def test_20_000_rows_and_5_000_curves_take_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "CURVES", 2)
    many = result(
        tables=[Table([Column("n", "count")] * 8, [[1] * 8] * 20_000)],
        curves=[Curve("line", "c", [Line("l", [1.0], [1.0])])] * 5_000,
    )
    results.write(tmp_path, many)
    began = time.monotonic()
    text = page.write_report(tmp_path).read_text()
    assert time.monotonic() - began < 30
    assert "19,000 more rows" in text and "4,998 more of 5,000 curves" in text


def test_many_results_and_many_scalars_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_MOST_RESULTS", 2)
    monkeypatch.setattr(page, "_MOST_PANELS", 2)
    for name in "abcd":
        results.write(tmp_path, dataclasses.replace(result(), set=name))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "x": 1, "y": 1, "z": 1}\n')
    text = page.write_report(tmp_path).read_text()
    assert "2 more results in" in text and "1 more picture of metrics.jsonl" in text


def test_lines_that_cannot_be_drawn_are_none():
    def lines(kind, y, x, **arrays):
        arrays = {name.strip("_"): array for name, array in arrays.items()}
        found = dataclasses.replace(result(), arrays=arrays)
        return lines_of(found, Curve(kind, "c", [Line("l", y, x)]))

    assert len(lines("line", [1.0, 2.0], [1.0, 2.0])) == 1
    assert lines("unheard", [1.0], [1.0]) == []
    assert lines("line", [1.0, 2.0], [1.0]) == []
    assert lines("line", "gone", [1.0]) == []
    assert lines("line", "y", [1.0], y_=np.array(["text"])) == []
    assert lines("line", "y", [1.0], y_=np.ones((1, 1))) == []
    many = np.arange(10**6, dtype=np.float32)
    (line,) = lines("line", "y", "x", x_=many, y_=many)
    assert len(line.x) == len(line.y) == bounds.POINTS
    assert line.y[0] == 0 and line.y[-1] == 10**6 - 1
