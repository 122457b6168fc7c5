"""Results as tables and pictures for the HTML pages."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from qface_jax.evals import results
from qface_jax.evals.results import BOTH, PAGE, Column, Curve, Result, Series, Table
from qface_jax.evals.text_table import cell, cells, percent, percent_and_spread
from qface_jax.report.bounds import POINTS
from qface_jax.report.figures import KINDS, Line, Plot, accuracy_plot


def results_table(evaluations: Sequence[Result]) -> Table:
    """Returns the list of a run's results, those of its own settings first.

    Args:
        evaluations: of one run.
    """
    columns = [
        Column("set", left=True),
        Column("protocol", left=True),
        Column("step", "count"),
        Column("evaluated", left=True),
        Column("headline", left=True),
        Column("other settings than the run's own", left=True),
        Column("file", left=True),
    ]
    rows = [
        [
            result.set,
            result.protocol,
            result.checkpoint.get("step"),
            result.date[:16].replace("T", " "),
            _headline(result),
            results.changes_text(result) or "none",
            results.result_path("", results.file_name(result)).name,
        ]
        for result in own_first(evaluations)
    ]
    return Table(columns, rows)


def own_first(evaluations: Iterable[Result]) -> list[Result]:
    """Returns results set by set, those of the run's own settings first."""

    def place(result: Result) -> tuple[str, bool, str]:
        return result.set, bool(result.changed), results.file_name(result)

    return sorted(evaluations, key=place)


def title_of(result: Result) -> str:
    """Returns the set's name, and protocol and settings that are not the run's own."""
    if not result.changed:
        return result.set
    return f"{result.set}, {result.protocol}, with {results.changes_text(result)}"


def result_context(result: Result) -> dict[str, Any]:
    """Returns what the template shows of one evaluated set."""
    not_drawn = [c.title for c in result.curves if not lines_of(result, c)]
    return {
        "name": title_of(result),
        "status": result.status,
        "message": result.message,
        "tiles": [
            (
                line.label,
                cell(result.scalars.get(line.scalar), line.format),
                "%" if line.format == "percent" else "",
            )
            for line in result.headlines
        ],
        "tables": [page_table(t) for t in result.tables if t.shown in (BOTH, PAGE)],
        "warnings": result.warnings,
        "figures": figures_of(result),
        "not_drawn": not_drawn,
        "manifest": flat(result.manifest),
        "origin": flat(
            {
                "checkpoint": result.checkpoint,
                "config hash": result.config_hash,
                "date": result.date,
                "images per second": result.images_per_second,
                "version": result.versions,
            }
        ),
    }


def figures_of(result: Result) -> list[Plot]:
    """Returns the figures of a result; without those whose arrays are missing."""
    drawn = [(curve, lines_of(result, curve)) for curve in result.curves]
    return [
        *_series_figures(result),
        *(KINDS[curve.kind](curve, lines) for curve, lines in drawn if lines),
    ]


def lines_of(result: Result, curve: Curve) -> list[Line]:
    """Returns the lines of a curve with their points.

    [] if some are missing, or not what such a curve is drawn from: the .npz file is
    then missing, damaged or another one's.
    """
    if curve.kind not in KINDS:
        return []
    lines = []
    for one in curve.lines:
        x, y = (_points(result, values) for values in (one.x, one.y))
        if x is None or y is None or (len(x) and len(x) != len(y)):
            return []
        if curve.kind != "histogram" and len(y) > POINTS:
            some = np.linspace(0, len(y) - 1, POINTS).astype(int)
            x, y = (x[some] if len(x) else x), y[some]
        lines.append(Line(one.label, x, y, note=one.note))
    return lines


def _points(result: Result, values: list[float] | str) -> np.ndarray | None:
    """The numbers of a list, or of the array of that name; None without any."""
    found = result.arrays.get(values) if isinstance(values, str) else values
    if found is None:
        return None
    array = np.asarray(found)
    return array if array.ndim == 1 and array.dtype.kind in "fiub" else None


def _headline(result: Result) -> str:
    """The headline that picks the best checkpoint, or what is wrong with the result."""
    if result.status != "ok" or not result.headlines:
        return result.status
    best = [line for line in result.headlines if line.scalar == result.best]
    line = (best or result.headlines)[0]
    unit = " %" if line.format == "percent" else ""
    return f"{line.label} {cell(result.scalars.get(line.scalar), line.format)}{unit}"


def page_table(table: Table) -> dict[str, Any]:
    """Returns what the template shows of a table."""
    columns = table.columns
    # A line divides the groups, and the numbers from what they are of.
    first = [
        place == 1 or (place > 1 and column.group != columns[place - 1].group)
        for place, column in enumerate(columns)
    ]
    groups = [
        (name, len(list(of_group)))
        for name, of_group in itertools.groupby(columns, lambda column: column.group)
    ]
    return {
        "groups": groups if any(name for name, _ in groups) else [],
        "columns": list(zip([column.title for column in columns], first, strict=True)),
        "rows": [
            [
                (text, " ".join(["first"] * f + ["strong"] * column.strong))
                for text, f, column in zip(
                    cells(table, row), first, columns, strict=True
                )
            ]
            for row in table.rows
        ],
        "footer": list(zip(cells(table, table.footer), first, strict=True))
        if table.footer
        else [],
        "notes": table.notes,
    }


def _series_figures(result: Result) -> list[Plot]:
    """One picture of all series that are drawn along the same axis."""
    drawn = [one for one in result.series if one.x]
    lines = [series_line(one.title, result, one) for one in drawn]
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return []
    title = f"{drawn[0].measure.capitalize()} over {drawn[0].over}"
    return [
        accuracy_plot(
            title,
            lines,
            ticks=drawn[0].x,
            xlabel=drawn[0].xlabel,
            ylabel=f"{drawn[0].measure}, %",
            chance=drawn[0].chance,
        )
    ]


def series_line(label: str, result: Result, series: Series) -> Line:
    """Returns the values of a series that there are, in ascending order of x."""
    points = sorted(
        (x, result.scalars[scalar], np.nan if spread is None else spread)
        for x, scalar, spread in zip(
            series.x, series.scalars, _spreads(series), strict=True
        )
        if scalar in result.scalars
    )
    x, y, spreads = np.array(points, np.float64).reshape(-1, 3).T
    return Line(label, x, y, None if np.isnan(spreads).any() else spreads)


def _spreads(series: Series) -> list[float | None]:
    return series.spreads or [None] * len(series.scalars)


def compare_results(runs: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """Returns, per evaluated set, a table and a picture of each series over all runs.

    Results with other settings than their run's own are compared among themselves.

    Args:
        runs: name of a run -> its results.
    """
    by_name: dict[str, dict[str, Result]] = {}
    for run, of_run in runs.items():
        for result in of_run:
            by_name.setdefault(results.file_name(result), {})[run] = result
    return [
        _compare(title_of(next(iter(of_runs.values()))), of_runs)
        for _, of_runs in sorted(by_name.items())
    ]


def _compare(name: str, of_runs: dict[str, Result]) -> dict[str, Any]:
    by_title: dict[str, dict[str, Series]] = {}
    for run, result in of_runs.items():
        for one in results.series(result):
            by_title.setdefault(one.title, {})[run] = one
    tables, figures, notes = [], [], {}
    for title, of_run in by_title.items():
        tables.append(_compared(title, of_runs, of_run))
        notes |= {one.note: None for one in of_run.values() if one.note}
        lines = [
            series_line(run, of_runs[run], one) for run, one in of_run.items() if one.x
        ]
        lines = [line for line in lines if len(line.x)]
        if lines:
            xs = sorted({x for one in of_run.values() for x in one.x}, reverse=True)
            some = next(iter(of_run.values()))
            figures.append(
                accuracy_plot(
                    title,
                    lines,
                    ticks=xs,
                    xlabel=some.xlabel,
                    ylabel=f"{some.measure}, %",
                    chance=None,
                )
            )
    return {
        "name": name,
        "tables": tables,
        "figures": figures,
        "notes": list(notes),
        "same_protocol": len({comparable(r) for r in of_runs.values()}) == 1,
    }


def _compared(
    title: str, of_runs: dict[str, Result], of_run: dict[str, Series]
) -> dict[str, Any]:
    """A row for each run, a column for each condition of any, and their mean."""
    places = {
        label: x
        for one in of_run.values()
        for label, x in zip(one.labels, one.x or [0.0] * len(one.labels), strict=True)
    }
    labels = sorted(places, key=places.get, reverse=True)
    rows = []
    for run, one in of_run.items():
        scalars = of_runs[run].scalars
        texts = {
            label: percent_and_spread(scalars.get(scalar), spread)
            for label, scalar, spread in zip(
                one.labels, one.scalars, _spreads(one), strict=True
            )
        }
        rows.append(
            {
                "run": run,
                "step": of_runs[run].checkpoint.get("step", "-"),
                "cells": [texts.get(label, "-") for label in labels],
                "mean": percent(scalars.get(one.mean)),
                "status": of_runs[run].status,
            }
        )
    return {
        "title": title,
        "labels": labels,
        "mean": any(one.mean for one in of_run.values()),
        "rows": rows,
    }


def comparable(result: Result) -> str:
    """The manifest without what the set tells of its own place on the disk."""
    return repr([(k, v) for k, v in sorted(result.manifest.items()) if k != "set"])


def flat(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Returns nested JSON values as (name, text) pairs for reading."""
    pairs = []
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, dict):
            pairs += flat(value, f"{name}: ")
        elif isinstance(value, list):
            pairs.append((name, ", ".join(map(str, value))))
        elif isinstance(value, bool):
            pairs.append((name, "yes" if value else "no"))
        else:
            pairs.append((name, str(value)))
    return pairs
