"""qface report: write what a run has shown as one HTML page."""

import argparse
from pathlib import Path

from qface_jax.launch.commands.command import Command

DESCRIPTION = "write one self-contained HTML page about a run, or about several"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run folders and the output file."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run folder (the --workdir of qface train); with several, their "
        "evaluations are also written side by side",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="HTML file to write; default: RUN/report.html, for several runs "
        "comparison.html in the current folder",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the page, or one per run and a comparison; prints results and paths."""
    from qface_jax.report.page import write_comparison, write_report

    # Results first: they are there at once, the page is drawn.
    if len(args.runs) == 1:
        _print_results(args.runs[0])
        print(write_report(args.runs[0], args.out))
        return 0
    for folder in args.runs:
        _print_results(folder)
        print(write_report(folder))
    print(write_comparison(args.runs, args.out or Path("comparison.html")))
    return 0


def _print_results(folder: Path) -> None:
    """Prints a line for each result of a run: what was evaluated, and how it went."""
    from qface_jax.evals.text_table import table_lines
    from qface_jax.report.page import read_results
    from qface_jax.report.results import results_table

    evaluations = read_results(folder)
    if evaluations:
        print("\n".join(table_lines(results_table(evaluations))), flush=True)


COMMAND = Command(
    summary="write a run's report as one HTML page",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
