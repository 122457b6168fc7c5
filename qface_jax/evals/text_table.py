"""Tables as aligned text, and numbers as the text of their cells."""

from collections.abc import Sequence
from typing import Any

from qface_jax.evals.results import BOTH, TERMINAL, Result, Table

MISSING = "-"


def percent(value: float | None) -> str:
    """Returns 0.98765 as "98.77", None as "-"."""
    return MISSING if value is None else f"{100 * value:.2f}"


def percent_and_spread(value: float | None, spread: float | None) -> str:
    """Returns "98.77 ± 0.51", or "98.77" without a spread, or "-" without a value."""
    if value is None or spread is None:
        return percent(value)
    return f"{percent(value)} ±{100 * spread:5.2f}"


def exponent(rate: float) -> str:
    """Returns 0.001 as "1e-3"."""
    return f"{rate:.0e}".replace("e-0", "e-")


def _percents(value: Sequence[float | None]) -> str:
    if len(value) == 1:
        # The padding keeps the decimals under those of values that have a spread.
        return percent(value[0]) + " " * len(" ± 0.00")
    return percent_and_spread(*value)


# Format of a column -> what turns its values into text.
FORMATS = {
    "text": str,
    "percent": percent,
    "percents": _percents,  # [value, spread], or [value]
    "signed": "{:+.3f}".format,
    "number": "{:.2f}".format,
    "count": "{:,}".format,
}


def cell(value: Any, form: str) -> str:
    """Returns the text of a cell.

    Args:
        value: text, which stays; None, for "-"; or what the format takes.
        form: key of FORMATS.
    """
    if value is None:
        return MISSING
    return value if isinstance(value, str) else FORMATS[form](value)


def cells(table: Table, row: Sequence[Any]) -> list[str]:
    """Returns the texts of a row of a table."""
    return [
        cell(value, column.format)
        for value, column in zip(row, table.columns, strict=True)
    ]


def aligned(
    rows: Sequence[Sequence[str]],
    *,
    left: Sequence[bool] = (),
    ruled: bool = True,
    footer: bool = False,
) -> list[str]:
    """Returns rows as lines of one width, columns two blanks apart.

    Args:
        rows: texts of the cells; the first row is the header.
        left: whether a column is flush left, from the first one; the others are right.
        ruled: with a rule below the header, and one above the footer.
        footer: whether the last row is one.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush = [*left, *[False] * (len(widths) - len(left))]
    lines = [
        "  ".join(
            text.ljust(width) if is_left else text.rjust(width)
            for text, width, is_left in zip(row, widths, flush, strict=True)
        )
        for row in rows
    ]
    if not ruled:
        return lines
    rule = "  ".join("-" * width for width in widths)
    body, last = (lines[1:-1], [rule, lines[-1]]) if footer else (lines[1:], [])
    return [lines[0], rule, *body, *last]


def table_lines(table: Table) -> list[str]:
    """Returns a table as lines of text: title, cells, notes."""
    rows = [[column.title for column in table.columns]]
    rows += [cells(table, row) for row in table.rows]
    if table.footer:
        rows.append(cells(table, table.footer))
    lines = aligned(
        rows,
        left=[column.left for column in table.columns],
        ruled=table.ruled,
        footer=bool(table.footer),
    )
    title = [table.title, ""] if table.title else []
    gap = [""] if table.ruled and table.notes else []
    return [*title, *(line.rstrip() for line in lines), *gap, *table.notes]


def result_text(result: Result) -> str:
    """Returns the tables of a result, and below the first what is wrong with it."""
    lines: list[str] = []
    shown = [one for one in result.tables if one.shown in (BOTH, TERMINAL)]
    for number, one in enumerate(shown):
        lines += ([""] if number else []) + table_lines(one)
        if number == 0 and result.status != "ok":
            lines.append(f"WARNING ({result.status}): {result.message}")
    return "\n".join(lines)
