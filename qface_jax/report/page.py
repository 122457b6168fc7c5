"""One self-contained HTML page about a run, or about several side by side."""

import datetime
import importlib.resources
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from qface_jax.configs import document
from qface_jax.errors import ConfigError, DataError, counted
from qface_jax.evals import results
from qface_jax.evals.results import Result
from qface_jax.report.before_after import before_and_after
from qface_jax.report.bounds import within_bounds
from qface_jax.report.figures import Plot, curve_plot
from qface_jax.report.pictures import read_samples
from qface_jax.report.results import (
    compare_results,
    flat,
    own_first,
    page_table,
    result_context,
    results_table,
)
from qface_jax.report.sets_together import sets_together
from qface_jax.report.training_log import Log, read_log
from qface_jax.report.training_log import panels as log_panels
from qface_jax.runs import run_document
from qface_jax.runs.run_folder import CHECKPOINTS, steps_in
from qface_jax.storage.atomic_file import replace_file
from qface_jax.tables import OBJECTIVES

# What a reader wants to know first: label -> place in the config.
_FACTS = {
    "Backbone": "model.backbone",
    "Embedding": "model.embedding_dim",
    "Compute type": "model.dtype",
    "Objective": "objective",
    "Margin": "loss.margin",
    "Scale": "loss.scale",
    "Distance": "octuplet.metric",
    "Octuplet margin": "octuplet.margin",
    "Octuplet terms": "octuplet.terms",
    "Training data": "data.source",
    "Data path": "data.path",
    "Batch size": "data.batch_size",
    "Degradation": "degrade.recipe",
    "Degraded on": "degrade.on",
    "Optimizer": "optim.name",
    "Learning rate": "optim.learning_rate",
    "Schedule": "optim.schedule",
    "Total steps": "total_steps",
    "Seed": "seed",
}
# On one page; what is left out is said.
_MOST_RESULTS, _MOST_PANELS = 100, 100


def write_report(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page of one run; parts that are not there yet are named on it.

    Args:
        run_dir: RUN, with any of config.json, metrics.jsonl, eval/ and samples/.
        out: file to write; RUN/report.html by default.

    Returns:
        The file written.

    Raises:
        ConfigError: `run_dir` is no run folder.
    """
    run_dir = _run_folder(run_dir)
    out = run_dir / "report.html" if out is None else Path(out)
    missing: list[tuple[str, str]] = []
    document = _read_config(run_dir, missing)
    log = _read_log(run_dir, missing)
    evaluations = _read_results(run_dir, missing)
    samples = read_samples(run_dir / "samples")
    if not samples.pictures and not samples.gst:
        missing.append(("samples", "no pictures in samples/: qface train writes them"))
    config = document.get("config", document)
    context = {
        "name": run_dir.resolve().name,
        "written": _now(),
        "facts": _facts(run_dir, config, log),
        "environment": flat({k: v for k, v in document.items() if k != "config"})
        if "config" in document
        else [],
        "missing": missing,
        "results": page_table(results_table(evaluations)) if evaluations else None,
        "sets": [result_context(result) for result in evaluations],
        "together": sets_together(evaluations),
        "changes": _changes(run_dir, evaluations, missing),
        "panels": _panels(log, missing),
        "skipped_lines": log.skipped if log else 0,
        "samples": samples,
        "config": _config_text(config),
    }
    return _render("report.html.j2", context, out)


def write_comparison(run_dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Writes one page with the evaluations of several runs side by side.

    Args:
        run_dirs: two or more RUN folders.
        out: file to write.

    Raises:
        ConfigError: one of them is no run folder.
    """
    of_runs: dict[str, list[Result]] = {}
    missing: list[tuple[str, str]] = []
    folders = [_run_folder(run_dir) for run_dir in run_dirs]
    names = _distinct_names(folders)
    for name, folder in zip(names, folders, strict=True):
        gaps: list[tuple[str, str]] = []
        of_runs[name] = _read_results(folder, gaps)
        missing += [(f"{name}: {part}", what) for part, what in gaps]
    context = {
        "name": f"{len(names)} runs",
        "written": _now(),
        "missing": missing,
        "sets": compare_results(of_runs),
    }
    return _render("comparison.html.j2", context, Path(out))


def _run_folder(run_dir: str | Path) -> Path:
    run_dir = Path(run_dir)
    parts = ("config.json", "metrics.jsonl", "eval", "checkpoints", "samples")
    if not any((run_dir / part).exists() for part in parts):
        what = "holds no part of a run" if run_dir.exists() else "does not exist"
        raise ConfigError(
            f"run folder {run_dir}: {what}, expected one of {', '.join(parts)} in "
            "it; give the --workdir of a qface train"
        )
    return run_dir


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; whole paths where two are called the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return [str(folder) for folder in folders]


def _read_config(run_dir: Path, missing: list) -> dict[str, Any]:
    path = run_dir / "config.json"
    try:
        return run_document.read(path)
    except FileNotFoundError:
        missing.append(("config", "no config.json: not a run of qface train"))
    except (OSError, ConfigError) as error:
        missing.append(("config", f"config.json cannot be read: {error}"))
    return {}


def _read_log(run_dir: Path, missing: list) -> Log | None:
    path = run_dir / "metrics.jsonl"
    log = read_log(path) if path.is_file() else None
    if log is None or not log.curves:
        missing.append(
            ("training", f"no training log yet: run qface train --workdir={run_dir}")
        )
    return log


def _read_results(run_dir: Path, missing: list) -> list[Result]:
    evaluations = []
    paths = results.paths(run_dir)
    for path in paths[:_MOST_RESULTS]:
        try:
            evaluations.append(results.read(path))
        except DataError as error:
            missing.append(("evaluation", str(error)))
    if len(paths) > _MOST_RESULTS:
        rest = counted(len(paths) - _MOST_RESULTS, "more result")
        missing.append(("evaluation", f"{rest} in {paths[0].parent}: not on this page"))
    if not paths:
        missing.append(
            ("evaluation", f"no evaluation yet: run qface eval --checkpoint={run_dir}")
        )
    return within_bounds(own_first(evaluations))


def _changes(
    run_dir: Path, after: list[Result], missing: list
) -> dict[str, Any] | None:
    """What the page shows of a run that was evaluated before its first step too."""
    folder = results.before(run_dir)
    if not results.paths(folder):
        return None  # not asked for, or not done yet
    before = _read_results(folder, missing)
    changes = before_and_after(before, after)
    if changes is None and before and after:
        missing.append(
            (
                "evaluation",
                "the model that training started from was evaluated on other sets or "
                "by another protocol, so there is no before and after: run qface eval "
                "with the eval group that the run was started with",
            )
        )
    return changes


def read_results(folder: Path) -> list[Result]:
    """Returns the results in a folder's eval/ that can be read, in the page's order.

    Args:
        folder: RUN, or `results.before` of it.
    """
    return _read_results(folder, [])


def _unread_groups(objective: Any) -> set[str]:
    """Groups of other objectives, which say nothing of the run.

    None where the objective is a user's whose code is not trusted, or unknown.
    """
    try:
        reads = OBJECTIVES[str(objective)].reads
    except ConfigError:
        return set()
    return {group for name in OBJECTIVES for group in OBJECTIVES[name].reads} - set(
        reads
    )


def _facts(run_dir: Path, config: dict, log: Log | None) -> list[tuple[str, str]]:
    facts = []
    unread = _unread_groups(_value(config, "objective"))
    for label, place in _FACTS.items():
        value = _value(config, place)
        if value in (None, "") or place.split(".")[0] in unread:
            continue
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        facts.append((label, document.shortened(str(value))))
    if log is not None and log.last_step is not None:
        facts.append(("Last logged step", f"{log.last_step:,}"))
    try:
        saved = steps_in(run_dir / CHECKPOINTS)
    except ConfigError as error:
        facts.append(("Checkpoints", str(error)))
        return facts
    if saved:
        facts.append(("Checkpoints", ", ".join(f"{step:,}" for step in saved)))
    return facts


def _value(config: Any, place: str) -> Any:
    """What a config holds at a dotted path; None without such a key."""
    for key in place.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _config_text(config: dict) -> str | None:
    """The config for reading: config.json has what is too long for a page."""
    if not config:
        return None

    def shown(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shown(inner) for key, inner in value.items()}
        return document.shortened(value) if isinstance(value, str) else value

    return json.dumps(shown(config), indent=2, ensure_ascii=False)


def _panels(log: Log | None, missing: list) -> list[tuple[str, Plot]]:
    if log is None:
        return []
    panels = log_panels(log)
    if len(panels) > _MOST_PANELS:
        rest = counted(len(panels) - _MOST_PANELS, "more picture")
        missing.append(("training", f"{rest} of metrics.jsonl: not on this page"))
    return [
        (panel.title, curve_plot(panel.lines, unit=panel.unit, factor=panel.factor))
        for panel in panels[:_MOST_PANELS]
    ]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _render(template: str, context: dict[str, Any], out: Path) -> Path:
    folder = importlib.resources.files("qface_jax.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: folder.joinpath(name).read_text("utf-8")
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(context)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, page.encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(f"report {out}: cannot be written ({error})") from error
    return out
