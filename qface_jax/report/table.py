"""A result as text for the terminal."""

from qface_jax.evals.results import BOTH, TERMINAL, Result
from qface_jax.evals.text_table import table_lines


def table(result: Result) -> str:
    """Returns the tables of a result, and below the first what is wrong with it."""
    lines: list[str] = []
    shown = [one for one in result.tables if one.shown in (BOTH, TERMINAL)]
    for number, one in enumerate(shown):
        lines += ([""] if number else []) + table_lines(one)
        if number == 0 and result.status != "ok":
            lines.append(f"WARNING ({result.status}): {result.message}")
    return "\n".join(lines)
