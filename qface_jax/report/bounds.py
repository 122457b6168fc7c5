"""What a page shows at most, so that no file in a run makes it endless.

A protocol of one's own may write more, and a file may have been edited by hand. What is
left out is said on the page, and stays in the file.
"""

import dataclasses
from collections.abc import Sequence

from qface_jax.errors import counted
from qface_jax.evals.results import Result, Table

ROWS = 1000  # of a table; an ablation of all papers has some hundred
CURVES = 60  # of all results of a page together; drawing one takes 0.1 to 0.3 s
POINTS = 20_000  # of a line that is no histogram's
_EACH = {
    "headlines": 40, "series": 40, "tables": 40, "warnings": 100,
}  # fmt: skip
_LINES = 40  # of a curve
_CONDITIONS = 200  # of a series
_COLUMNS = 200  # of a table


def within_bounds(results: Sequence[Result]) -> list[Result]:
    """Returns the results with what a page shows of them; a warning says of the rest.

    Args:
        results: Of one page.
    """
    shown, curves = [], CURVES
    for result in results:
        shown.append(_bounded(result, curves))
        curves -= len(shown[-1].curves)
    return shown


def _bounded(result: Result, curves: int) -> Result:
    left = []

    def cut(name: str, most: int, parts: list) -> list:
        if len(parts) > most:
            left.append(f"{len(parts) - most:,} more of {len(parts):,} {name}")
        return parts[:most]

    def whole(name: str, parts: list, fits) -> list:
        fitting = [part for part in parts if fits(part)]
        if len(fitting) < len(parts):
            left.append(f"{counted(len(parts) - len(fitting), name)} of too many parts")
        return fitting

    changes = {
        name: cut(name, most, getattr(result, name)) for name, most in _EACH.items()
    }
    changes["series"] = whole(
        "series", changes["series"], lambda one: len(one.labels) <= _CONDITIONS
    )
    changes["tables"] = [
        _short(table)
        for table in whole(
            "table", changes["tables"], lambda one: len(one.columns) <= _COLUMNS
        )
    ]
    fitting = whole("curve", result.curves, lambda one: len(one.lines) <= _LINES)
    changes["curves"] = cut("curves", curves, fitting)
    if left:
        changes["warnings"].append(
            f"not on this page: {'; '.join(left)}; the result's file has all"
        )
    return dataclasses.replace(result, **changes)


def _short(table: Table) -> Table:
    more = len(table.rows) - ROWS
    if more <= 0:
        return table
    note = f"{counted(more, 'more row')} in the result's file."
    return dataclasses.replace(
        table, rows=table.rows[:ROWS], notes=[*table.notes, note]
    )
