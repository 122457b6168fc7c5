"""What fine-tuning changed: the same evaluation before the first step and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qface_jax.evals.measures.roc import roc
from qface_jax.evals.measures.verification import Score
from qface_jax.evals.results import Result, Row
from qface_jax.report.figures import Line, accuracy_plot, roc_plot
from qface_jax.report.results import compare_results

BEFORE, AFTER = "before", "after"
_CURVES = 3  # resolutions whose ROC is drawn: the largest, the smallest, one between


def change_table(before: Result, after: Result) -> str:
    """Returns accuracies before, after and their difference, in percent.

    Args:
        before: Of the model that training started from.
        after: Of the same set, with the same protocol.
    """
    header = [
        "side",
        "cross before",
        "after",
        "change",
        "same before",
        "after",
        "change",
    ]
    old = {row.side: row for row in before.rows}
    body = [
        [f"{row.side} px", *_cells(old[row.side].cross, row.cross),
         *_cells(old[row.side].same, row.same)]
        for row in after.rows
        if row.side in old
    ]  # fmt: skip
    means = [(before.mean_cross, after.mean_cross), (before.mean_same, after.mean_same)]
    body.append(["mean", *(cell for pair in means for cell in _numbers(*pair))])
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in [header, *body]
    ]
    rule = "  ".join("-" * width for width in widths)
    head = f"{after.set}: accuracy before and after, in percent"
    return "\n".join([head, "", lines[0], rule, *lines[1:-1], rule, lines[-1]])


def matching(
    before: Sequence[Result], after: Sequence[Result]
) -> list[tuple[Result, Result]]:
    """Returns the pairs of results of one set and one protocol.

    Args:
        before: Results of the model that training started from.
        after: Results of the run.
    """
    old = {result.set: result for result in before}
    pairs = [(old[result.set], result) for result in after if result.set in old]
    return [(a, b) for a, b in pairs if a.protocol == b.protocol]


def before_and_after(
    before: Sequence[Result], after: Sequence[Result]
) -> dict[str, Any] | None:
    """Returns what the page shows; None where no set can be compared.

    Args:
        before: Results of the model that training started from.
        after: Results of the run.
    """
    pairs = matching(before, after)
    if not pairs:
        return None
    runs = {BEFORE: [a for a, _ in pairs], AFTER: [b for _, b in pairs]}
    sets = compare_results(runs)
    for found in sets:
        pair = next(p for p in pairs if p[1].set == found["name"])
        found["figures"] = [*found["figures"], *_curves(*pair)]
    sides = sorted({row.side for _, b in pairs for row in b.rows}, reverse=True)
    lines = [_change_line(a, b) for a, b in pairs]
    drawn = [line for line in lines if len(line.x)]
    title = "Change of accuracy, cross-resolution"
    figure = (
        accuracy_plot(title, drawn, sides=sides, chance=None, ylabel="change, points")
        if drawn
        else None
    )
    return {"sets": sets, "figure": figure}


def _cells(before: Score | None, after: Score | None) -> list[str]:
    return _numbers(before and before.accuracy, after and after.accuracy)


def _numbers(before: float | None, after: float | None) -> list[str]:
    texts = [
        "-" if value is None else f"{100 * value:.2f}" for value in (before, after)
    ]
    if before is None or after is None:
        return [*texts, "-"]
    # The sum with 0 makes a rounded -0.00 a +0.00.
    return [*texts, f"{round(100 * (after - before), 2) + 0.0:+.2f}"]


def _change_line(before: Result, after: Result) -> Line:
    old = {row.side: row.cross for row in before.rows}
    both = [row for row in after.rows[::-1] if row.cross and old.get(row.side)]
    return Line(
        after.set,
        np.array([row.side for row in both], np.float64),
        np.array([row.cross.accuracy - old[row.side].accuracy for row in both]),
    )


def _curves(before: Result, after: Result) -> list[str]:
    """ROC before (dashed) and after (solid) at some resolutions, cross-resolution."""
    lines = []
    for number, side in enumerate(_chosen(after.rows)):
        for result, dashed in ((before, True), (after, False)):
            distances = result.arrays.get(f"cross_{side}")
            if distances is None:
                continue
            far, tar = roc(distances, result.arrays["issame"])
            when = BEFORE if dashed else AFTER
            if len(far):
                label = f"{side} px, {when}"
                lines.append(Line(label, far, tar, dashed=dashed, colour=number))
    return [roc_plot("ROC before and after, cross-resolution", lines)] if lines else []


def _chosen(rows: Sequence[Row]) -> list[int]:
    sides = [row.side for row in rows]
    if len(sides) <= _CURVES:
        return sides
    return [sides[0], sides[-2], sides[-1]]
