"""What an evaluation yields: named scalars, tables and curves, and their files.

A protocol fills a `Result`; the log, the printed table, the report, the comparisons
and the tables of ablations show whatever it holds. On disk a result is
RUN/eval/<set>.json, and .npz for its arrays; that of an evaluation with other settings
than the run's own is RUN/eval/<set>.<protocol>-<digest of the settings>.json beside it.
"""

import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.evals import npz_file, result_document
from qface_jax.storage.atomic_file import replace_file

FORMAT = 2  # raised when the meaning of a key changes
BOTH, TERMINAL, PAGE = "both", "terminal", "page"  # where a table is shown


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: in the header.
        format: key of `text_table.FORMATS`, of the cells that are no text.
        group: above the titles, over all neighbours of the same group.
        left: flush left.
        strong: emphasized on the page.
    """

    title: str
    format: str = "text"
    group: str = ""
    left: bool = False
    strong: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table for reading.

    Attributes:
        columns: one for each cell of a row.
        rows: cells: text as it is, or what the column's format takes; None is "-".
        title: line above the printed table.
        footer: last row, set apart; [] without.
        notes: sentences below.
        shown: BOTH, TERMINAL or PAGE.
        ruled: lines below the header and above the footer, when printed.
    """

    columns: list[Column]
    rows: list[list[Any]]
    title: str = ""
    footer: list[Any] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    shown: str = BOTH
    ruled: bool = True


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a curve.

    Attributes:
        label: in the legend.
        y: values [k], or the name of an array that holds them.
        x: where they are, ascending [k], or the name of an array; [] of a histogram.
        note: behind the label, such as "EER 3.20 %"; not what lines are told apart by.
    """

    label: str
    y: list[float] | str
    x: list[float] | str = dataclasses.field(default_factory=list)
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Curve:
    """A picture of lines.

    Attributes:
        kind: key of `report.figures.KINDS`: "roc", "det", "discard", "histogram" of
            the values y, or "line", whose axes are named here.
        title: above it.
        lines: in it.
        xlabel: of the horizontal axis, where the kind does not say it.
        ylabel: of the vertical axis, likewise; of a histogram what is counted, such as
            "pairs, %".
        logarithmic: axes of kind "line" that are so: "", "x", "y" or "xy".
    """

    kind: str
    title: str
    lines: list[Line]
    xlabel: str = ""
    ylabel: str = ""
    logarithmic: str = ""


@dataclasses.dataclass(frozen=True)
class Headline:
    """A scalar that a reader wants to know first.

    Attributes:
        scalar: its name.
        label: what it is, in a few words.
        format: key of `text_table.FORMATS`.
    """

    scalar: str
    label: str
    format: str = "percent"


@dataclasses.dataclass(frozen=True)
class Series:
    """One measure under several conditions, which runs are compared by.

    Attributes:
        name: short, for the headers of columns, such as "cross".
        title: such as "Cross-resolution".
        labels: of the conditions, [k], such as "112 px".
        scalars: names of the scalars under these conditions, [k].
        spreads: of their values, [k]; None or []: not known.
        mean: name of the scalar that is their mean; "": there is none.
        measure: what is measured, a rate, such as "accuracy".
        condition: what the conditions are, such as "side".
        x: number of each condition [k], for a picture; [] without.
        over: what x is, in a word, such as "resolution".
        xlabel: of the picture's axis.
        chance: rate of a constant answer.
        note: how its numbers are to be read.
        about: what its conditions and its mean are, in sentences, for tables over runs.
    """

    name: str
    title: str
    labels: list[str]
    scalars: list[str]
    spreads: list[float | None] = dataclasses.field(default_factory=list)
    mean: str = ""
    measure: str = "accuracy"
    condition: str = ""
    x: list[float] = dataclasses.field(default_factory=list)
    over: str = ""
    xlabel: str = ""
    chance: float | None = None
    note: str = ""
    about: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """Images to look at side by side: a pair, or a probe and whom it found.

    Attributes:
        group: heading that it stands under, such as "worst false matches".
        score: of the pair, or of what the probe found.
        images: their numbers in the protocol's images; equally many within a group.
    """

    group: str
    score: float
    images: list[int]


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluation of one set.

    The protocol fills what stands before `protocol`, the evaluation the rest.

    Attributes:
        set: name of the set.
        scalars: the numbers worth following during training, by name; what could not
            be computed is left out.
        best: name of the scalar that picks the best checkpoint where the config names
            none.
        status: "ok", or what is wrong with the features, such as "collapsed".
        message: what is wrong with them; empty when ok.
        headlines: scalars on the page's tiles.
        series: by which runs are compared; [] : by the headlines.
        tables: for reading.
        curves: for the page.
        examples: images to look at, group by group.
        warnings: sentences that a reader must not miss.
        manifest: everything that the numbers depend on besides the model: counts,
            options, versions. Equal manifests make results comparable.
        details: the protocol's own numbers, fit for JSON; others do not read them.
        protocol: name of the protocol.
        settings: what the numbers depend on besides the model, by the name of its
            config key, fit for JSON.
        changed: those of them that are not as in the run's own config: name ->
            {"got": value, "run": value of the run}; {}: the evaluation is the run's
            own.
        checkpoint: what was evaluated, such as {"path": ..., "step": ...}.
        config_hash: of the run's config.
        versions: of Python and the packages.
        date: of the evaluation, UTC, ISO 8601.
        images_per_second: measured over the embedding.
        arrays: of the curves, and what other commands need; written to the .npz alone.
    """

    set: str
    scalars: dict[str, float]
    best: str = ""
    status: str = "ok"
    message: str = ""
    headlines: list[Headline] = dataclasses.field(default_factory=list)
    series: list[Series] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    curves: list[Curve] = dataclasses.field(default_factory=list)
    examples: list[Example] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    manifest: dict[str, Any] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    protocol: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    checkpoint: dict[str, Any] = dataclasses.field(default_factory=dict)
    config_hash: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    date: str = ""
    images_per_second: float = 0.0
    arrays: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict, compare=False
    )


def result_path(run_dir: str | Path, name: str) -> Path:
    """Returns RUN/eval/<name>.json; characters unfit for a file name become "_".

    Args:
        run_dir: RUN.
        name: of a set, for the run's own evaluation of it; `file_name` of any result.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
    return Path(run_dir) / "eval" / f"{safe}.json"


def file_name(result: Result) -> str:
    """Returns what tells a result from the others of its run: the name of its files.

    That is the set's name; of an evaluation with other settings than the run's own
    <set>.<protocol>-<digest>, the same for equal settings: a digest of what differs, so
    that a setting of a later version changes no name.
    """
    if not result.changed:
        return result.set
    differing = {name: values["got"] for name, values in result.changed.items()}
    text = json.dumps(differing, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{result.set}.{result.protocol}-{digest}"


def changes_text(result: Result) -> str:
    """Returns the settings that are not the run's own in a line; "" without any."""
    return "; ".join(
        f"{name}: {json.dumps(values['got'], ensure_ascii=False)} (the run's own: "
        f"{json.dumps(values['run'], ensure_ascii=False)})"
        for name, values in result.changed.items()
    )


def before(run_dir: str | Path) -> Path:
    """Returns the folder whose eval/ holds what a run started from: RUN/before."""
    return Path(run_dir) / "before"


def to_json(result: Result) -> dict[str, Any]:
    """Returns the result as plain JSON values, without the arrays."""
    fields = dataclasses.asdict(dataclasses.replace(result, arrays={}))
    del fields["arrays"]
    return {"format": FORMAT, **fields}


def from_json(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> Result:
    """Rebuilds a result; every value's type and range is checked.

    Raises:
        ValueError: it is of another version, or something in it is not as it must be.
    """
    fields = dict(document)
    written = fields.pop("format", None)
    if type(written) is not int or written != FORMAT:
        age = "an older" if type(written) is int and written < FORMAT else "another"
        raise ValueError(
            f"written by {age} version of qface: format {str(written)[:20]}, this one "
            f"reads {FORMAT}"
        )
    if "arrays" in fields:
        raise ValueError("arrays: unknown key")
    result = result_document.built(Result, fields)
    _check(result)
    return dataclasses.replace(result, arrays=arrays)


def _check(result: Result) -> None:
    """Raises ValueError where parts of a result do not fit each other."""
    for i, headline in enumerate(result.headlines):
        result_document.check_format(headline.format, f"headlines[{i}].format")
    for i, table in enumerate(result.tables):
        place = f"tables[{i}]"
        if not table.columns:
            raise ValueError(f"{place}: has no columns")
        formats = [column.format for column in table.columns]
        for form in formats:
            result_document.check_format(form, f"{place}.columns")
        for k, row in enumerate(table.rows):
            result_document.check_row(row, formats, f"{place}.rows[{k}]")
        if table.footer:
            result_document.check_row(table.footer, formats, f"{place}.footer")
    for i, one in enumerate(result.series):
        counts = [len(one.labels), len(one.scalars)]
        counts += [len(part) for part in (one.spreads or [], one.x) if part]
        if len(set(counts)) > 1:
            raise ValueError(f"series[{i}]: its lists are of {counts} conditions")
    for name, values in result.changed.items():
        if values.keys() != {"got", "run"}:
            raise ValueError(f"changed.{name[:80]}: expected got and run")
    step = result.checkpoint.get("step")
    if step is not None and (type(step) is not int or step < 0):
        raise ValueError("checkpoint.step: expected a whole number >= 0")


def write(run_dir: str | Path, result: Result) -> Path:
    """Writes RUN/eval/<name>.npz, then <name>.json, each aside and then renamed.

    Args:
        run_dir: RUN.
        result: its `file_name` is the name; an earlier result of it is replaced.

    Returns:
        The path of the .json.
    """
    path = result_path(run_dir, file_name(result))
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    # The date ties the two files together should one of the renames not happen.
    np.savez(packed, date=np.array(result.date), **result.arrays)
    replace_file(path.with_suffix(".npz"), packed.getvalue())
    text = json.dumps(to_json(result), indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(path, (text + "\n").encode())
    return path


def paths(run_dir: str | Path) -> list[Path]:
    """Returns the results of a run, the run's own and others, by name.

    Args:
        run_dir: RUN, or `before` of it.
    """
    return sorted((Path(run_dir) / "eval").glob("*.json"))


def read(path: str | Path) -> Result:
    """Reads one result; its arrays are empty without a whole .npz of the same date.

    Raises:
        DataError: not a result file of this version.
    """
    path = Path(path)
    try:
        document = result_document.read(path)
        result = from_json(document, {})
        return dataclasses.replace(result, arrays=_read_arrays(path, result.date))
    except (OSError, ValueError) as error:
        raise DataError(
            f"evaluation result {path}: cannot be read ({error}); run qface eval again"
        ) from error


def plain(run_dir: str | Path, name: str) -> Result | None:
    """Returns the result under a set's plain name; None where none can be read."""
    path = result_path(run_dir, name)
    try:
        return read(path) if path.is_file() else None
    except DataError:
        return None


def scalars(result: Result) -> dict[str, float]:
    """Returns the scalars for the log; `degenerate` is 1 unless the status is "ok"."""
    return {"degenerate": float(result.status != "ok"), **result.scalars}


def best(result: Result, name: str) -> float | None:
    """Returns the scalar that picks the best checkpoint.

    Args:
        result: of the first benchmark.
        name: `eval.best_metric`; "": the protocol's own choice.

    Returns:
        The scalar; None where the features are degenerate and there is no such number.

    Raises:
        ConfigError: the result has no scalar of that name.
    """
    name = name or result.best
    if name not in result.scalars and result.status == "ok":
        raise ConfigError(
            f"eval.best_metric: got {name!r}, must be one of the scalars of "
            f"{result.set}: {', '.join(result.scalars)}"
        )
    return result.scalars.get(name)


def series(result: Result) -> list[Series]:
    """Returns the series by which runs are compared; one of the headlines at least."""
    if result.series or not result.headlines:
        return result.series
    rates = [line for line in result.headlines if line.format == "percent"]
    labels, names = [line.label for line in rates], [line.scalar for line in rates]
    return [Series("", result.protocol, labels, names, measure="rates")]


def _read_arrays(path: Path, date: str) -> dict[str, np.ndarray]:
    try:
        arrays = npz_file.read(path.with_suffix(".npz"))
    except (OSError, ValueError):
        return {}  # the numbers stand without them, and the report names the gap
    return arrays if str(arrays.pop("date", "")) == date else {}
