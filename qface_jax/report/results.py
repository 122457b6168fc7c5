"""Results as tables and pictures for the HTML pages."""

from typing import Any

import numpy as np

from qface_jax.evals.measures import error_discard
from qface_jax.evals.measures.quality_scores import TITLES
from qface_jax.evals.measures.roc import FARS, roc
from qface_jax.evals.measures.verification import Score
from qface_jax.evals.results import Result, Row
from qface_jax.report.figures import (
    Line,
    accuracy_plot,
    discard_plot,
    histogram_plot,
    roc_plot,
)
from qface_jax.report.table import accuracy, exponent, percent

_KINDS = {"cross": "Cross-resolution", "same": "Same resolution"}


def result_context(result: Result) -> dict[str, Any]:
    """Returns what the template shows of one evaluated set."""
    shown = _resolved_fars(result)
    reasons = sorted(
        {
            f"{exponent(point.far)}: {point.reason}"
            for row in result.rows
            if row.cross is not None
            for point in row.cross.tar_at_far
            if point.reason is not None
        }
    )
    return {
        "name": result.set,
        "status": result.status,
        "message": result.message,
        "fars": [exponent(FARS[i]) for i in shown],
        "rows": [_table_row(row, shown) for row in result.rows],
        "mean": [percent(result.mean_cross), percent(result.mean_same)],
        "tiles": _tiles(result),
        "reasons": reasons,
        "quality": [] if result.quality is None else _quality_rows(result.quality),
        "warnings": []
        if result.quality is None
        else error_discard.warnings(result.quality),
        "figures": _figures(result),
        "has_arrays": bool(result.arrays),
        "protocol": flat(result.protocol),
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


def compare_results(runs: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """Returns, per evaluated set, one table and two pictures over all runs."""
    names = sorted({result.set for found in runs.values() for result in found})
    return [_compare(name, runs) for name in names]


def _compare(name: str, runs: dict[str, list[Result]]) -> dict[str, Any]:
    found = {
        run: result
        for run, results in runs.items()
        for result in results
        if result.set == name
    }
    sides = sorted({row.side for r in found.values() for row in r.rows}, reverse=True)
    protocols = {_comparable(result) for result in found.values()}
    tables = {
        title: [_compared_row(run, found[run], kind, sides) for run in found]
        for kind, title in _KINDS.items()
    }
    figures = []
    for kind, title in _KINDS.items():
        lines = [_accuracy_line(run, found[run], kind) for run in found]
        lines = [line for line in lines if len(line.x)]
        if lines:
            figures.append(accuracy_plot(title, lines, sides=sides, chance=None))
    return {
        "name": name,
        "sides": sides,
        "tables": tables,
        "figures": figures,
        "same_protocol": len(protocols) == 1,
    }


def _comparable(result: Result) -> str:
    """The protocol without what the set tells of its own place on the disk."""
    return repr([(k, v) for k, v in sorted(result.protocol.items()) if k != "set"])


def _compared_row(run: str, result: Result, kind: str, sides: list[int]) -> dict:
    scores = {row.side: _score(row, kind) for row in result.rows}
    mean = result.mean_cross if kind == "cross" else result.mean_same
    return {
        "run": run,
        "step": result.checkpoint.get("step", "-"),
        "cells": [accuracy(scores.get(side)) for side in sides],
        "mean": percent(mean),
        "status": result.status,
    }


def _resolved_fars(result: Result) -> list[int]:
    """Indices into FARS of the columns that hold a number in any row."""
    scores = [score for row in result.rows for score in (row.cross, row.same) if score]
    return [
        i
        for i in range(len(FARS))
        if any(score.tar_at_far[i].tar is not None for score in scores)
    ]


def _table_row(row: Row, shown: list[int]) -> dict[str, Any]:
    return {
        "side": row.side,
        "status": row.status,
        "cross": _cells(row.cross, shown),
        "same": _cells(row.same, shown),
        "norm": "-" if row.norms is None else f"{row.norms['mean']:.2f}",
    }


def _cells(score: Score | None, shown: list[int]) -> list[str]:
    if score is None:
        return ["-"] * (2 + len(shown))
    tars = [percent(score.tar_at_far[i].tar) for i in shown]
    return [accuracy(score), percent(score.auc), *tars]


def _quality_rows(quality: dict[str, Any]) -> list[list[str]]:
    """Name of each score, its rank correlation, its two areas."""
    return [
        [
            TITLES[name],
            "-"
            if facts["rank_correlation"] is None
            else f"{facts['rank_correlation']:+.3f}",
            percent(facts["area"]),
            percent(facts["early_area"]),
        ]
        for name, facts in quality["scores"].items()
    ]


def _tiles(result: Result) -> list[tuple[str, str]]:
    largest, smallest = result.rows[0], result.rows[-1]
    tiles = [(f"at {largest.side} px", largest.cross)]
    if len(result.rows) > 1:
        tiles.append((f"{largest.side} against {smallest.side} px", smallest.cross))
    shown = [(label, percent(s.accuracy if s else None)) for label, s in tiles]
    return [
        *shown,
        ("mean, cross-resolution", percent(result.mean_cross)),
        ("mean, same resolution", percent(result.mean_same)),
    ]


def _figures(result: Result) -> list[str]:
    sides = [row.side for row in result.rows]
    figures = []
    lines = [_accuracy_line(title, result, kind) for kind, title in _KINDS.items()]
    lines = [line for line in lines if len(line.x)]
    if lines:
        share = result.protocol["same"] / result.protocol["pairs"]
        chance = max(share, 1 - share)
        title = "Accuracy over resolution"
        figures.append(accuracy_plot(title, lines, sides=sides, chance=chance))
    issame = result.arrays.get("issame")
    if issame is None:
        return figures
    figures += quality_figures(result)
    for kind, title in _KINDS.items():
        lines = []
        for side in sides:
            if f"{kind}_{side}" in result.arrays:
                far, tar = roc(result.arrays[f"{kind}_{side}"], issame)
                if len(far):
                    lines.append(Line(f"{side} px", far, tar))
        if lines:
            figures.append(roc_plot(f"ROC, {title.lower()}", lines))
    return figures


def quality_figures(result: Result) -> list[str]:
    """Returns the distribution of each quality score, and their discard curves."""
    sides = [row.side for row in result.rows]
    figures = []
    for name in error_discard.scores_of(result.arrays, sides):
        title = TITLES[name]
        values = {
            f"{side} px": result.arrays[f"{error_discard.ARRAYS[name]}_{side}"]
            for side in sides
        }
        figures.append(histogram_plot(f"{title}, by resolution", title, values))
    if result.quality is None:
        return figures
    rate = result.quality["fmr"]
    curves = error_discard.curves(result.arrays, sides, fmr=rate)
    lines = [
        Line(f"{TITLES[name]} (area {percent(drawn.area())})", *drawn.thinned())
        for name, drawn in curves.items()
    ]
    if lines:
        figures.append(discard_plot(f"Error versus discard, FMR {rate:g}", lines))
    return figures


def _accuracy_line(label: str, result: Result, kind: str) -> Line:
    rows = [row for row in result.rows if _score(row, kind) is not None][::-1]
    scores = [_score(row, kind) for row in rows]
    return Line(
        label,
        np.array([row.side for row in rows], np.float64),
        np.array([score.accuracy for score in scores]),
        np.array([score.std for score in scores]),
    )


def _score(row: Row, kind: str) -> Score | None:
    return row.cross if kind == "cross" else row.same


def flat(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Returns nested JSON values as (name, text) pairs for reading."""
    found = []
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, dict):
            found += flat(value, f"{name}: ")
        elif isinstance(value, list):
            found.append((name, ", ".join(map(str, value))))
        elif isinstance(value, bool):
            found.append((name, "yes" if value else "no"))
        else:
            found.append((name, str(value)))
    return found
