"""What results of identification share: tables, curves and how they are scored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qface_jax.errors import counted
from qface_jax.evals.measures.interval import wilson
from qface_jax.evals.measures.search import TIES
from qface_jax.evals.results import PAGE, Column, Curve, Line, Table
from qface_jax.options import Option, one_of

TIES_OPTION = Option(
    "pessimistic", one_of(*TIES),
    "Where gallery entries that score like the mate stand: before it, after it, or in "
    "the order of the gallery.",
)  # fmt: skip
# Headings of the worst probes; strangers are those whom the gallery does not have.
MISSED = "worst misses: the probe, whom it found, its true mate"
STRANGERS = "worst strangers: the probe, and whom it was taken for"
STRETCH = "stretch"  # how pictures that are not aligned are published


def resize_notes(resize: str) -> list[str]:
    """Returns a sentence where raw pictures are not resized as published; else []."""
    if resize == STRETCH:
        return []
    return [
        f"pictures were resized by {resize}, published numbers are of whole pictures: "
        f"set --config.eval.resize={STRETCH}"
    ]


def interval(successes: int, trials: int) -> str:
    """Returns the 95 % interval of a rate as text, in percent; "-" without trials."""
    if not trials:
        return "-"
    low, high = wilson(successes, trials)
    return f"{100 * low:.2f} to {100 * high:.2f}"


def rates_table(
    first: str, rows: Sequence[tuple[str, int, int]], notes: Sequence[str] = ()
) -> Table:
    """Returns a table of the page: each rate with its count and 95 % interval.

    Args:
        first: title of the first column.
        rows: label, successes, trials.
        notes: sentences below.
    """
    return Table(
        columns=[
            Column(first, left=True),
            Column("rate", "percent", strong=True),
            Column("95 % interval"),
            Column("hits", "count"),
            Column("of", "count"),
        ],
        rows=[
            [label, hits / n if n else None, interval(hits, n), hits, n]
            for label, hits, n in rows
        ],
        notes=[*notes, "In percent; Wilson interval, 95 %."],
        shown=PAGE,
    )


def published_table(
    measures: Sequence[str],
    ours: Sequence[float | None],
    rows: Mapping[str, Sequence[float | None]],
    note: str,
) -> Table:
    """Returns published numbers, ours first.

    Args:
        measures: title of each column.
        ours: this model's rates, from 0 to 1.
        rows: model and source -> published rates, from 0 to 1; None: not published.
        note: what they can be compared with.
    """
    return Table(
        title="Published",
        columns=[Column("model", left=True), *(Column(m, "percent") for m in measures)],
        rows=[
            ["this model", *ours],
            *([model, *rates] for model, rates in rows.items()),
        ],
        notes=[note],
        shown=PAGE,
    )


def unread(count: int) -> str:
    """Returns the sentence on images that could not be read."""
    return f"{counted(count, 'image')} could not be read: counted as missed"


def score_histogram(arrays: Mapping[str, str], title: str) -> Curve:
    """Returns the histogram of the probes' best scores.

    Args:
        arrays: label -> name of the array.
        title: above it.
    """
    lines = [Line(label, name) for label, name in arrays.items()]
    return Curve("histogram", title, lines, "cosine of probe and gallery", "probes, %")


def cmc_curve(lines: Sequence[Line]) -> Curve:
    """Returns the picture of cumulative match curves."""
    return Curve(
        "line", "Cumulative match", list(lines), "rank", "probes found, %",
        logarithmic="x",
    )  # fmt: skip


def finite(scores: np.ndarray) -> np.ndarray:
    """Returns the scores without those of probes that found nothing, float32."""
    return scores[np.isfinite(scores)].astype(np.float32)


def scoring(ties: str) -> dict[str, Any]:
    """Returns how scores become ranks, for a manifest."""
    return {
        "score": "cosine in float64 of float32 unit features, 9 decimals",
        "ties": ties,
        "unusable_scored": "an image that cannot be read scores lowest; as a probe it "
        "is a miss",
        "colour_order": "RGB",
    }


def fusion(flip: bool) -> str:
    """Returns what a feature is, for a manifest."""
    if flip:
        return "sum of the raw features of image and mirror image, then normalised"
    return "raw feature of the image, normalised"
