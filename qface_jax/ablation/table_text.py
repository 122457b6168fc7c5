"""A table of an ablation for the terminal, as Markdown and as JSON."""

import json
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from qface_jax.ablation import table as ablation
from qface_jax.ablation.table import LOWEST, Comparison, Row, Statistics
from qface_jax.evals.text_table import MISSING, aligned, percent_and_spread
from qface_jax.storage.atomic_file import replace_file

_WIDTH = 100  # of the lines around a table


class _Block(NamedTuple):
    """One set: its name, the header and the rows, ours and the paper's."""

    name: str
    header: list[str]
    rows: list[list[str]]
    paper_header: list[str]
    paper_rows: list[list[str]]


def text(comparison: Comparison) -> str:
    """Returns the table for the terminal."""
    parts = _wrapped(_head(comparison))
    for block in _blocks(comparison):
        parts += ["", _aligned(block)]
    return "\n".join([*parts, "", *_wrapped(_foot(comparison))])


def markdown(comparison: Comparison) -> str:
    """Returns the table as Markdown."""
    title, *head = _head(comparison)
    parts = [f"# {title}", "", *head]
    for block in _blocks(comparison):
        header = [*block.header, *(f"*paper: {c}*" for c in block.paper_header)]
        rows = [
            [*row, *paper]
            for row, paper in zip(block.rows, block.paper_rows, strict=True)
        ]
        marks = ["---", "---", *["---:"] * (len(header) - 2)]
        lines = ["| " + " | ".join(cells) + " |" for cells in [header, marks, *rows]]
        parts += ["", f"## {block.name}", "", *lines]
    return "\n".join([*parts, "", *(f"- {line}" for line in _foot(comparison)), ""])


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Returns everything as plain JSON values; accuracies in 0..1, paper in percent."""
    return {
        "table": comparison.name,
        "title": comparison.table.title,
        "size": comparison.size,
        "seeds": comparison.seeds,
        "rows": [_row_json(comparison, row) for row in comparison.rows],
        "claims": claims(comparison),
        "paper": {
            "claim": comparison.table.claim,
            "columns": list(comparison.table.columns),
            "columns_text": comparison.table.columns_text,
        },
        "notes": comparison.notes,
    }


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes FOLDER/<table>.md and .json, each aside and then renamed."""
    document = json.dumps(
        to_json(comparison), indent=1, ensure_ascii=False, allow_nan=False
    )
    paths = []
    for ending, content in ((".md", markdown(comparison)), (".json", document + "\n")):
        paths.append(folder / f"{comparison.name}{ending}")
        replace_file(paths[-1], content.encode())
    return paths


def claims(comparison: Comparison) -> list[str]:
    """Returns what the numbers say of the proposed row, a sentence each."""
    if not comparison.sets:
        return ["No run is finished: nothing can be said yet."]
    table, name = comparison.table, comparison.sets[0]
    ours, reference = comparison.row(table.proposed), comparison.row(table.reference)
    conditions = list(comparison.conditions(name).items())
    full = conditions[:1] if any(one.x for one in comparison.series[name]) else []
    lower = conditions[len(full) :][-LOWEST:]
    lines = [_best_at(comparison, ours, *condition) for condition in lower]
    for label, metric in full:
        gap = ablation.difference(ours, reference, name, metric)
        what = f"{table.proposed} - {table.reference} at {label}"
        lines.append(f"{what}: {_signed(gap)}.")
    return lines


def _best_at(comparison: Comparison, ours: Row, condition: str, metric: str) -> str:
    """Whether the proposed row is the best one under a condition."""
    name, label = comparison.sets[0], comparison.table.proposed
    of_ours = ours.statistics(name, metric)
    other = ablation.best_others(comparison, name, metric)
    if of_ours is None or other is None:
        lacking = label if of_ours is None else "any other row"
        return f"{condition}: no finished run of {lacking} to compare."
    of_other = other.statistics(name, metric)
    gap = ablation.difference(ours, other, name, metric)
    title = comparison.series[name][0].title.lower()
    is_best = of_ours.mean >= of_other.mean
    return (
        f"{condition}, {title}: {label} {_cell(of_ours, of_ours.n)} is "
        f"{'the best' if is_best else 'not the best'} of "
        f"{_count(comparison, metric)} rows; {'next' if is_best else 'best'} is "
        f"{other.setting.label} {_cell(of_other, of_other.n)}; "
        f"{label} - {other.setting.label}: {_signed(gap)}."
    )


def _count(comparison: Comparison, metric: str) -> int:
    name = comparison.sets[0]
    return sum(row.statistics(name, metric) is not None for row in comparison.rows)


def _head(comparison: Comparison) -> list[str]:
    seeds = ", ".join(map(str, comparison.seeds))
    series = comparison.series.get(comparison.sets[0], []) if comparison.sets else []
    about, measure = next(((s.about, s.measure) for s in series), ("", "accuracy"))
    return [
        f"{comparison.name}, size {comparison.size}: {comparison.table.title}",
        f"{measure.capitalize()} in percent, mean ± sample standard deviation over the "
        f"finished runs (n) of seeds {seeds}. {about}".rstrip(),
    ]


def _foot(comparison: Comparison) -> list[str]:
    table = comparison.table
    lines = [
        "The paper's columns are OTHER test sets: compare the order of the rows, not "
        f"the digits. {table.columns_text}",
        f"The paper: {table.claim}",
    ]
    where = f" ({comparison.sets[0]})" if comparison.sets else ""
    lines += [f"Here{where}: {line}" for line in claims(comparison)]
    return lines + [f"NOTE: {note}" for note in comparison.notes]


def _blocks(comparison: Comparison) -> list[_Block]:
    """A block per set; the paper's columns stand beside the first."""
    blocks = []
    for i, name in enumerate(comparison.sets or ["no evaluation yet"]):
        metrics = comparison.conditions(name)
        for one in comparison.series.get(name, []):
            metrics |= {f"mean {one.name}": one.mean} if one.mean else {}
        rows = []
        for row in comparison.rows:
            n = len(row.values)
            cells = [_cell(row.statistics(name, m), n) for m in metrics.values()]
            rows.append([row.setting.label, row.setting.text, str(n), *cells])
        papers = [
            [_paper(value) for value in row.setting.paper] if i == 0 else []
            for row in comparison.rows
        ]
        columns = list(comparison.table.columns) if i == 0 else []
        blocks.append(
            _Block(name, ["row", "what", "n", *metrics], rows, columns, papers)
        )
    return blocks


def _wrapped(lines: list[str]) -> list[str]:
    wrap = textwrap.TextWrapper(_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return [part for line in lines for part in wrap.wrap(line)]


def _aligned(block: _Block) -> str:
    """A block in columns, the paper's behind a bar."""
    left = aligned([block.header, *block.rows], left=[True, True])
    if not block.paper_header:
        return "\n".join([f"{block.name}:", *left])
    right = aligned([block.paper_header, *block.paper_rows])
    lines = [f"{a}  |  {b}" for a, b in zip(left, right, strict=True)]
    head = f"{block.name}:".ljust(len(left[0]))
    return "\n".join([f"{head}  |  the paper, other test sets", *lines])


def _paper(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _cell(statistics: Statistics | None, expected: int) -> str:
    """Returns "96.50 ± 0.42"; with its own n where some runs lack the number."""
    if statistics is None:
        return MISSING
    shown = percent_and_spread(statistics.mean, statistics.std)
    return shown + (f" (n {statistics.n})" if statistics.n != expected else "")


def _signed(gap: Statistics | None) -> str:
    if gap is None:
        return "no seed is finished in both"
    spread = "" if gap.std is None else f" ± {100 * gap.std:.2f}"
    return f"{100 * gap.mean:+.2f}{spread} (n {gap.n})"


def _row_json(comparison: Comparison, row: Row) -> dict[str, Any]:
    return {
        "label": row.setting.label,
        "config": f"{comparison.table.families[comparison.size]}_{row.setting.config}",
        "n": len(row.values),
        "sets": {
            name: {
                metric: row.statistics(name, metric)._asdict()
                | {"by_seed": row.by_seed(name, metric)}
                for metric in sorted(
                    {m for sets in row.values.values() for m in sets.get(name, {})}
                )
            }
            for name in comparison.sets
        },
        "paper": dict(zip(comparison.table.columns, row.setting.paper, strict=True)),
    }
