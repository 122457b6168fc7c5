"""What a command of `qface` is."""

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
    """A command: its module is light, and imports what it needs when it runs.

    Attributes:
        summary: What it does, in a few words, for `qface --help`.
        description: What `qface COMMAND --help` says.
        add_arguments: Declares its arguments. Where there is one called `config`, words
            `--config.KEY=VALUE` are collected as `overrides`.
        run: (arguments) -> exit status.
    """

    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_which(parser: argparse.ArgumentParser) -> None:
    """Declares which checkpoint of a run is taken."""
    parser.add_argument(
        "--which",
        choices=("last", "best"),
        default="last",
        help="which checkpoint of RUN; default: last",
    )
