"""RUN/metrics.jsonl as curves, sorted into panels."""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qface_jax.report.figures import Line
from qface_jax.runs import metrics_log

_POINTS = 1200  # of a curve; more are averaged


class Log(NamedTuple):
    """Scalars of a run.

    Attributes:
        curves: name -> (steps ascending [k], values [k]).
        last_step: of the last event, or None.
        skipped: lines that are no log event.
    """

    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    last_step: int | None
    skipped: int


class Panel(NamedTuple):
    """One picture of curves.

    Attributes:
        title: above it.
        unit: of the vertical axis.
        factor: on the values.
        lines: what is drawn.
    """

    title: str
    unit: str
    factor: float
    lines: list[Line]


class _Kind(NamedTuple):
    title: str
    unit: str
    factor: float
    pattern: str


# The first pattern that matches a whole name decides; a new kind is one line.
_KINDS = (
    _Kind("Loss", "", 1.0, r"(.*_)?loss(_.*)?"),
    _Kind("Learning rate", "", 1.0, r"lr|learning_rate"),
    _Kind("Training accuracy", "%", 100.0, r"(.*_)?accuracy"),
    _Kind("Kept by the quality partition", "%", 100.0, r"kept_.*"),
    _Kind("Queue filled", "%", 100.0, r"queue_fill"),
    _Kind("Cosine similarity", "", 1.0, r"(cos|similarity)_.*|ui_tightness"),
    _Kind("Recognizability index", "", 1.0, r"ri(_.*)?"),
    _Kind("Rank correlation with resolution", "", 1.0, r"rank_.*"),
    _Kind("Correlation with image quality", "", 1.0, r"quality_correlation_.*"),
    _Kind("Gradient norm", "", 1.0, r"grad(ient)?_norm"),
    _Kind("Feature norms", "", 1.0, r"(feature_)?norms?(_.*)?"),
    _Kind("Quality that the margin adapts to", "", 1.0, r"proxy_.*"),
    _Kind("Speed", "images/s", 1.0, r"images_per_second(_.*)?"),
    _Kind("Time waiting for data", "%", 100.0, r"(data_)?wait(_.*)?|data_wait.*"),
)
_EVALUATIONS = (
    _Kind("cross-resolution accuracy", "%", 100.0, r"(mean_)?cross(_\d+)?"),
    _Kind("same-resolution accuracy", "%", 100.0, r"(mean_)?same(_\d+)?"),
    _Kind("cross-resolution AUC", "%", 100.0, r"auc_\d+"),
    _Kind("cross-resolution EER", "%", 100.0, r"eer_\d+"),
    _Kind("mean feature norm", "", 1.0, r"norm_mean_\d+"),
    _Kind("rank correlation with resolution", "", 1.0, r"rank_.*"),
    _Kind("error-versus-discard area", "%", 100.0, r"discard_.*"),
)


def read_log(path: Path) -> Log:
    """Reads the events; of a step logged twice (after a restart) the later counts."""
    values_by_step: dict[str, dict[int, float]] = {}
    skipped, last = 0, None
    for event in metrics_log.events(path):
        if event is None:
            skipped += 1
            continue
        last = event.step
        for name, value in event.values.items():
            if not math.isinf(value):
                values_by_step.setdefault(name, {})[last] = value
    curves = {}
    for name, points in values_by_step.items():
        steps = np.array(sorted(points))
        curves[name] = steps, np.array([points[step] for step in steps.tolist()])
    return Log(curves, last, skipped)


def panels(log: Log) -> list[Panel]:
    """Sorts the curves into pictures; those of no known kind get one each."""
    groups: dict[tuple, Panel] = {}
    for name in sorted(log.curves, key=_order):
        steps, values = log.curves[name]
        if name.endswith("/degenerate") and not values.any():
            continue
        rank, panel, label = _group(name)
        line = Line(label, *_thin(steps, values))
        groups.setdefault(rank, panel).lines.append(line)
    return [groups[rank] for rank in sorted(groups)]


def _group(name: str) -> tuple[tuple[int, str, int], Panel, str]:
    """Returns the place of the picture, the picture still empty, the curve's label.

    Training curves come first, then the evaluations set by set, then the rest.
    """
    before, slash, metric = name.rpartition("/")
    for i, kind in enumerate(_EVALUATIONS if slash else _KINDS):
        if re.fullmatch(kind.pattern, metric):
            title = f"{before}: {kind.title}" if slash else kind.title
            panel = Panel(title, kind.unit, kind.factor, [])
            return (int(bool(slash)), before, i), panel, _label(metric, bool(slash))
    return (2, name, 0), Panel(name.replace("_", " "), "", 1.0, []), metric


def _label(metric: str, evaluated: bool) -> str:
    side = re.search(r"_(\d+)$", metric)
    if evaluated and side:
        return f"{side.group(1)} px"
    if evaluated and metric.startswith("mean_"):
        return "mean"
    return metric.replace("_", " ")


def _order(name: str) -> tuple:
    """Numbers by value, large first, and means last: cross_112, cross_56, mean_cross.

    The sides so keep the colours they have in the other pictures.
    """
    before, _, metric = name.rpartition("/")
    parts = re.split(r"(\d+)", metric)
    values = tuple(-int(p) if i % 2 else p for i, p in enumerate(parts))
    return before, metric.startswith("mean_"), values


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages neighbours until at most _POINTS are left."""
    if len(steps) <= _POINTS:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), _POINTS)
    return (
        np.array([steps[part].mean() for part in parts]),
        np.array([values[part].mean() for part in parts]),
    )
