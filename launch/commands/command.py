"""What a command of `qface` is."""

import argparse
from collections.abc import Callable, Mapping
from types import ModuleType
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


def group(
    summary: str, description: str, actions: Mapping[str, tuple[ModuleType, str]]
) -> Command:
    """Returns a command whose first word says which of several things it does.

    Args:
        summary: As of `Command`.
        description: As of `Command`.
        actions: Name -> a module with DESCRIPTION, add_arguments and run, as a command
            has them, and what it does in a few words.
    """

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, (module, text) in actions.items():
            action = parsers.add_parser(
                name,
                help=text,
                description=module.DESCRIPTION,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            module.add_arguments(action)

    def run(args: argparse.Namespace) -> int:
        module, _ = actions[args.action]
        return module.run(args)

    return Command(summary, description, add_arguments, run)


def positive(text: str) -> int:
    """Returns the number that a word is, at least 1; for `type=` of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, must be at least 1")
    return value
