"""A result as an aligned table for the terminal."""

from qface_jax.evals.measures import error_discard
from qface_jax.evals.measures.verification import Score, TarAtFar
from qface_jax.evals.results import Result, Row

_MISSING = "-"


def table(result: Result) -> str:
    """Returns accuracy, TAR at FAR and AUC over resolution, in percent.

    The TAR and AUC columns belong to the cross-resolution pairs.
    """
    protocol = result.protocol
    head = (
        f"{result.set}: {protocol['pairs']:,} pairs ({protocol['same']:,} same, "
        f"{protocol['different']:,} different), {protocol['folds']} folds, "
        f"{protocol['metric']}, {'with' if protocol['flip'] else 'without'} flip"
    )
    fars = [point.far for point in _points(result)]
    header = ["side", "cross-resolution", "same resolution"]
    header += [f"TAR@{exponent(far)}" for far in fars] + ["AUC"]
    body = [_cells(row, len(fars)) for row in result.rows]
    body.append(
        ["mean", percent(result.mean_cross), percent(result.mean_same)]
        + [""] * (len(fars) + 1)
    )
    # The mean has no deviation; the padding keeps its decimals under the others.
    body[-1][1:3] = [cell + " " * len(" ± 0.00") for cell in body[-1][1:3]]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in [header, *body]
    ]
    lines = [line.rstrip() for line in lines]
    lines = [head, "", lines[0], rule, *lines[1:-1], rule, lines[-1]]
    quality = [] if result.quality is None else error_discard.lines(result.quality)
    return "\n".join([*lines, *_notes(result), *([""] if quality else []), *quality])


def percent(value: float | None) -> str:
    """Returns 0.98765 as "98.77", None as "-"."""
    return _MISSING if value is None else f"{100 * value:.2f}"


def exponent(far: float) -> str:
    """Returns 0.001 as "1e-3"."""
    return f"{far:.0e}".replace("e-0", "e-")


def accuracy(score: Score | None) -> str:
    """Returns "98.77 ± 0.51", or "-" without a score."""
    if score is None:
        return _MISSING
    return f"{percent(score.accuracy)} ±{100 * score.std:5.2f}"


def _cells(row: Row, fars: int) -> list[str]:
    cells = [f"{row.side} px", accuracy(row.cross), accuracy(row.same)]
    if row.cross is None:
        return cells + [_MISSING] * (fars + 1)
    tars = [percent(point.tar) for point in row.cross.tar_at_far]
    return [*cells, *tars, percent(row.cross.auc)]


def _points(result: Result) -> list[TarAtFar]:
    for row in result.rows:
        if row.cross is not None:
            return row.cross.tar_at_far
    return []


def _notes(result: Result) -> list[str]:
    notes = ["", "TAR and AUC: cross-resolution. All in percent; ± over the folds."]
    reasons: dict[str, list[str]] = {}
    for point in _points(result):
        if point.reason is not None:
            reasons.setdefault(point.reason, []).append(exponent(point.far))
    for reason, fars in reasons.items():
        notes.append(f"No TAR at FAR {', '.join(fars)}: {reason}.")
    if result.status != "ok":
        notes.append(f"WARNING ({result.status}): {result.message}")
    return notes
