"""The runs of an ablation, read back: what each row reached, over the seeds."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from qface_jax.configs import document
from qface_jax.configs.ablations import Ablation, Setting
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import results
from qface_jax.evals.results import Result, Series
from qface_jax.report.results import comparable
from qface_jax.runs import run_folder
from qface_jax.settings import config as configs

LOWEST = 2  # conditions whose best row is named
# Keys that change no number, or are said otherwise.
_MAY_DIFFER = (
    "seed",
    "data.path",
    "data.workers",
    "eval.path",
    "log.interval",
    "log.pictures",
    "log.csv",
)
LastStep = Callable[[ConfigDict, int], int]


class RunRecord(NamedTuple):
    """What a run's folder holds.

    Attributes:
        config: As it was started with.
        data: How much it was trained on.
        finished: Whether all its sets were evaluated after its last step.
        results: One evaluation of each set after its last step, by the run's own
            settings; of a set added by `qface eval` by those that it alone has.
        notes: Files that could not be read, evaluations that do not count.
    """

    config: ConfigDict
    data: str
    finished: bool
    results: list[Result]
    notes: list[str]


class Statistics(NamedTuple):
    """Of some values: mean, sample standard deviation (None of one), count."""

    mean: float
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Row:
    """A setting and its finished runs.

    Attributes:
        setting: Row of the paper's table.
        values: seed -> set -> metric (`results.scalars`) -> value; accuracies in 0..1.
    """

    setting: Setting
    values: dict[int, dict[str, dict[str, float]]]

    def statistics(self, name: str, metric: str) -> Statistics | None:
        """Returns a metric over the seeds; None where no run has it."""
        return statistics(list(self.by_seed(name, metric).values()))

    def by_seed(self, name: str, metric: str) -> dict[int, float]:
        """Returns seed -> value of a metric of a set."""
        return {
            seed: sets[name][metric]
            for seed, sets in self.values.items()
            if metric in sets.get(name, {})
        }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What all runs of a table have reached.

    Attributes:
        name: Key of ABLATIONS.
        table: The paper's table.
        size: "paper" or "demo".
        seeds: Asked for.
        rows: One per setting, in the paper's order.
        sets: What was evaluated; first the mean of those that the table declares,
            where all runs have them.
        series: set -> what its runs are compared by; the conditions of all of them,
            largest first.
        notes: What a reader must know: runs missing, collapsed or not comparable.
    """

    name: str
    table: Ablation
    size: str
    seeds: list[int]
    rows: list[Row]
    sets: list[str]
    series: dict[str, list[Series]]
    notes: list[str]

    def row(self, label: str) -> Row:
        """Returns the row of that label."""
        return next(row for row in self.rows if row.setting.label == label)

    def conditions(self, name: str) -> dict[str, str]:
        """Returns the conditions of a set's first series: label -> scalar."""
        first = self.series.get(name, [])[:1]
        return {
            label: scalar
            for one in first
            for label, scalar in zip(one.labels, one.scalars, strict=True)
        }


def run_name(config: str, seed: int) -> str:
    """Returns the name of a run's folder."""
    return f"{config}-seed{seed}"


def read_run(folder: Path, last_step: LastStep) -> RunRecord:
    """Reads a run's folder.

    Args:
        folder: RUN.
        last_step: (config, training images of an epoch) -> updates of the whole run.

    Raises:
        ConfigError: if the folder is not a run's.
    """
    run = run_folder.read(folder)
    if run_folder.IMPORTED in run.facts:
        raise ConfigError(
            f"{folder}: holds an imported model, expected a run of qface train; move "
            "it out of the folder of the ablation"
        )
    images = run.facts["data"]["images"]
    drawn = run.facts["data"].get("images_per_epoch", images)
    data = f"{images:,} images of {run.num_classes:,} identities"
    last = last_step(run.config, drawn)
    evaluated, notes = [], []
    for path in results.paths(folder):
        try:
            result = results.read(path)
        except DataError as error:
            notes.append(str(error))
            continue
        if result.checkpoint.get("step") == last:
            evaluated.append(result)
    # Evaluated when it was trained, maybe by a version with fewer keys, or later.
    digests = document.digest(run.config), run.facts.get("config_digest")
    unchanged = [result for result in evaluated if not result.changed]
    shipped_sets = sum(result.config_hash in digests for result in unchanged)
    finished = shipped_sets >= len(run.config.eval.sets)
    added, of_added = _added(folder.name, evaluated)
    return RunRecord(run.config, data, finished, unchanged + added, notes + of_added)


def _added(run: str, evaluated: list[Result]) -> tuple[list[Result], list[str]]:
    """Returns the results of sets that have none by the run's own settings, and notes.

    Of two with other settings neither is the run's: none is taken.
    """
    by_set: dict[str, list[Result]] = {}
    for result in evaluated:
        by_set.setdefault(result.set, []).append(result)
    taken, notes = [], []
    for name, of_set in by_set.items():
        if not all(result.changed for result in of_set):
            continue
        if len(of_set) == 1:
            taken += of_set
            continue
        files = ", ".join(f"{results.file_name(result)}.json" for result in of_set)
        notes.append(
            f"{run}: {name} was evaluated with several settings, none of them the "
            f"run's own, and is left out: {files}"
        )
    return taken, notes


def collect(
    name: str,
    table: Ablation,
    size: str,
    seeds: Sequence[int],
    workdir: Path,
    last_step: LastStep,
) -> Comparison:
    """Reads all runs of a table; those not finished are left out and named.

    Args:
        name: Key of ABLATIONS.
        table: Its entry.
        size: Key of `table.families`.
        seeds: Of the runs.
        workdir: Folder of the runs.
        last_step: As in `read_run`.
    """
    rows, notes = [], []
    missing: dict[str, list[str]] = {}
    records: dict[str, RunRecord] = {}
    for setting in table.settings:
        config, values = f"{table.families[size]}_{setting.config}", {}
        for seed in seeds:
            run = run_name(config, seed)
            try:
                record = read_run(workdir / run, last_step)
            except ConfigError as error:
                if (workdir / run).exists():
                    notes.append(str(error))
                missing.setdefault(config, []).append(str(seed))
                continue
            notes += record.notes
            if not record.finished:
                missing.setdefault(config, []).append(str(seed))
                continue
            records[run] = record
            values[seed] = {r.set: results.scalars(r) for r in record.results}
        rows.append(Row(setting, values))
    if missing:
        lines = [f"{c} (seed {', '.join(of)})" for c, of in missing.items()]
        notes.insert(0, f"not finished, hence not in the table: {'; '.join(lines)}")
    notes += _degenerate(records) + _incomparable(records)
    sets, averaged = _add_means(rows, table.mean_sets)
    series = _series(records)
    if averaged:
        series[sets[0]] = series[averaged[0]]
    elif set(sets) & set(table.mean_sets):
        lacking = ", ".join(_lacking(rows, table.mean_sets))
        notes.append(
            f"no mean: the table's is of {', '.join(table.mean_sets)}, and not all "
            f"runs were evaluated on {lacking}"
        )
    return Comparison(name, table, size, list(seeds), rows, sets, series, notes)


def statistics(values: Sequence[float]) -> Statistics | None:
    """Returns mean and sample standard deviation; None of no values."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Statistics(float(np.mean(values)), std, len(values))


def difference(one: Row, other: Row, name: str, metric: str) -> Statistics | None:
    """Returns one row minus another, seed by seed; None without a common seed."""
    ours, theirs = one.by_seed(name, metric), other.by_seed(name, metric)
    return statistics([ours[s] - theirs[s] for s in ours if s in theirs])


def best_others(comparison: Comparison, name: str, metric: str) -> Row | None:
    """Returns the best row by mean besides the proposed one; None without any."""
    others = [
        (of_row.mean, -i, row)
        for i, row in enumerate(comparison.rows)
        if row.setting.label != comparison.table.proposed
        and (of_row := row.statistics(name, metric)) is not None
    ]
    return max(others)[2] if others else None


def _series(records: dict[str, RunRecord]) -> dict[str, list[Series]]:
    """Joins, for each set, the conditions of all runs."""
    joined: dict[str, dict[str, Series]] = {}
    for record in records.values():
        for result in record.results:
            of_set = joined.setdefault(result.set, {})
            for one in results.series(result):
                other = of_set.get(one.title)
                of_set[one.title] = one if other is None else _joined(other, one)
    return {name: list(of_set.values()) for name, of_set in joined.items()}


def _joined(one: Series, other: Series) -> Series:
    """Returns a series with the conditions of two, which have no spreads then."""
    conditions = {
        label: (x, label, scalar)
        for series in (one, other)
        for label, scalar, x in zip(
            series.labels,
            series.scalars,
            series.x or [0.0] * len(series.labels),
            strict=True,
        )
    }
    ordered = sorted(conditions.values(), key=lambda condition: -condition[0])
    xs, labels, scalars = (list(column) for column in zip(*ordered, strict=True))
    return dataclasses.replace(
        one, x=xs if one.x else [], labels=labels, scalars=scalars, spreads=[]
    )


def _runs(rows: list[Row]) -> list[dict[str, dict[str, float]]]:
    return [values for row in rows for values in row.values.values()]


def _lacking(rows: list[Row], sets: Sequence[str]) -> list[str]:
    """Returns the sets that not all runs have."""
    runs = _runs(rows)
    return [name for name in sets if not all(name in values for values in runs)]


def _add_means(
    rows: list[Row], averaged: Sequence[str]
) -> tuple[list[str], Sequence[str]]:
    """Adds the mean over the sets that the table declares, where all runs have them.

    Returns:
        What is to be shown, and the sets that the mean is of; none without one.
    """
    runs = _runs(rows)
    names = sorted(set(itertools.chain.from_iterable(runs)))
    if not averaged or not runs or _lacking(rows, averaged):
        return names, ()
    mean = f"mean of {', '.join(averaged)}"
    for values in runs:
        metrics = set.intersection(*(set(values[name]) for name in averaged))
        values[mean] = {
            metric: math.fsum(values[name][metric] for name in averaged) / len(averaged)
            for metric in sorted(metrics)
        }
    return [mean, *names], averaged


def _degenerate(records: dict[str, RunRecord]) -> list[str]:
    return [
        f"{run}: {result.set}: {result.message}"
        for run, record in records.items()
        for result in record.results
        if result.status != "ok"
    ]


def _incomparable(records: dict[str, RunRecord]) -> list[str]:
    """A line where runs differ in more than their setting and seed."""
    notes = []
    overrides = {run: _overridden(run, record) for run, record in records.items()}
    common = set.intersection(*overrides.values()) if overrides else set()
    odd = {run: sorted(words - common) for run, words in overrides.items()}
    if any(odd.values()):
        lines = [f"{run} {', '.join(words)}" for run, words in odd.items() if words]
        notes.append(
            "NOT COMPARABLE, some runs were trained with other overrides than the "
            f"rest: {'; '.join(lines)}"
        )
    for name in sorted({r.set for record in records.values() for r in record.results}):
        protocols = {
            comparable(result)
            for record in records.values()
            for result in record.results
            if result.set == name
        }
        if len(protocols) > 1:
            notes.append(
                f"NOT COMPARABLE, {name} was evaluated by different protocols: run "
                "qface eval alike on all runs"
            )
    return notes


def _overridden(run: str, record: RunRecord) -> set[str]:
    """Its data, and each key that is not as the config of that name has it."""
    shipped = dict(document.flatten(configs.shipped()[run.rpartition("-seed")[0]]()))
    return {record.data} | {
        f"{path}={value!r}"
        for path, value in document.flatten(record.config)
        if path not in _MAY_DIFFER and value != shipped[path]
    }
