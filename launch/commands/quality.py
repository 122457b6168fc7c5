"""`qface quality`: how recognisable faces are, and how good the scores that say so."""

import argparse

from qface_jax.launch.commands import (
    quality_discard,
    quality_maps,
    quality_score,
    quality_unrecognizable,
)
from qface_jax.launch.commands.command import Command

DESCRIPTION = """Score faces by how well a run can recognise them, and judge the scores:
feature norm (every run), ERS and recognizability index RI (runs with objective
recognizability). Of every score larger is better."""
# Name -> (module with DESCRIPTION, add_arguments and run, what it does).
ACTIONS = {
    "score": (quality_score, "score images, one line of a CSV for each"),
    "erc": (quality_discard, "error-versus-discard curves of an evaluated run"),
    "ui-cluster": (
        quality_unrecognizable,
        "where unrecognizable images lie, and faces",
    ),
    "maps": (quality_maps, "draw where a model looks"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (module, text) in ACTIONS.items():
        action = actions.add_parser(
            name,
            help=text,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action; returns the exit status."""
    module, _ = ACTIONS[args.action]
    return module.run(args)


COMMAND = Command(
    summary="score faces, judge the scores, draw where a model looks",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
