"""What fine-tuning changed: the same evaluation before the first step and after."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from qface_jax.evals import results
from qface_jax.evals.results import Result
from qface_jax.evals.text_table import aligned, percent
from qface_jax.report.figures import KINDS, Line, Plot, accuracy_plot
from qface_jax.report.results import compare_results, lines_of, series_line

BEFORE, AFTER = "before", "after"
_CURVES = 3  # conditions whose lines are drawn: the first, the last, the one before it


def change_table(before: Result, after: Result) -> str:
    """Returns the rates before, after and their difference, in percent.

    Args:
        before: of the model that training started from.
        after: of the same set, with the same manifest.
    """
    series = results.series(after)
    of_series = [dict(zip(one.labels, one.scalars, strict=True)) for one in series]
    labels = dict.fromkeys(label for scalars in of_series for label in scalars)
    known = {label for one in results.series(before) for label in one.labels}
    header = [series[0].condition]
    for one in series:
        header += [f"{one.name} before".strip(), "after", "change"]

    def row(label: str, names: Sequence[str]) -> list[str]:
        values = [(before.scalars.get(n), after.scalars.get(n)) for n in names]
        return [label, *(text for pair in values for text in _numbers(*pair))]

    body = [
        row(label, [scalars.get(label, "") for scalars in of_series])
        for label in labels
        if label in known
    ]
    means = any(one.mean for one in series)
    if means:
        body.append(row("mean", [one.mean for one in series]))
    head = f"{after.set}: {series[0].measure} before and after, in percent"
    return "\n".join([head, "", *aligned([header, *body], footer=means)])


def matching(
    before: Sequence[Result], after: Sequence[Result]
) -> list[tuple[Result, Result]]:
    """Returns the pairs of results of one set and one manifest, both the run's own.

    Args:
        before: Results of the model that training started from.
        after: Results of the run.
    """
    old = {result.set: result for result in before}
    pairs = [
        (old[result.set], result)
        for result in after
        if result.set in old and not result.changed
    ]
    return [(a, b) for a, b in pairs if a.manifest == b.manifest]


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
    sets, drawn = compare_results(runs), {}
    for shown in sets:
        pair = next(p for p in pairs if p[1].set == shown["name"])
        if curve := _curve(*pair):
            subject, picture = curve
            shown["figures"].append(picture)
            drawn[subject] = None
    notes = list(dict.fromkeys(note for shown in sets for note in shown["notes"]))
    return {
        "sets": sets,
        "notes": notes,
        "dashed": list(drawn),
        "figure": _change_figure(pairs),
    }


def _numbers(before: float | None, after: float | None) -> list[str]:
    texts = [percent(before), percent(after)]
    if before is None or after is None:
        return [*texts, "-"]
    # The sum with 0 makes a rounded -0.00 a +0.00.
    return [*texts, f"{round(100 * (after - before), 2) + 0.0:+.2f}"]


def _change_figure(pairs: Sequence[tuple[Result, Result]]) -> Plot | None:
    """The change of the first series of each set; None where there is none."""
    lines, drawn = [], []
    for before, after in pairs:
        for one in after.series[:1]:
            old = series_line("", before, one)
            new = series_line(after.set, after, one)
            x, rows, old_rows = np.intersect1d(new.x, old.x, return_indices=True)
            if len(x):
                lines.append(Line(after.set, x, new.y[rows] - old.y[old_rows]))
                drawn.append(one)
    if not lines:
        return None
    return accuracy_plot(
        f"Change of {drawn[0].measure}, {drawn[0].title.lower()}",
        lines,
        ticks=sorted({x for one in drawn for x in one.x}),
        xlabel=drawn[0].xlabel,
        ylabel="change, points",
    )


def _curve(before: Result, after: Result) -> tuple[str, Plot] | None:
    """The first ROC or the like, before (dashed) and after (solid): its name, picture.

    Only under some conditions; None where there is none.
    """
    curve = next((one for one in after.curves if one.kind in ("roc", "line")), None)
    if curve is None:
        return None
    same = [one for one in before.curves if one.title == curve.title]
    old = {line.label: line for one in same for line in lines_of(before, one)}
    new = {line.label: line for line in lines_of(after, curve)}
    lines = []
    for number, label in enumerate(_chosen([line.label for line in curve.lines])):
        for of_when, when in ((old, BEFORE), (new, AFTER)):
            if label in of_when:
                line = of_when[label]._replace(
                    label=f"{label}, {when}", dashed=when == BEFORE, colour=number
                )
                lines.append(line)
    if not lines:
        return None
    subject, comma, rest = curve.title.partition(",")
    title = f"{subject} before and after{comma}{rest}"
    return subject, KINDS[curve.kind](dataclasses.replace(curve, title=title), lines)


def _chosen(labels: Sequence[str]) -> list[str]:
    if len(labels) <= _CURVES:
        return list(labels)
    return [labels[0], labels[-2], labels[-1]]
