"""`qface completion`: lets a shell complete commands, options and their choices."""

import argparse

from qface_jax.launch.commands.command import Command

CONFIG = "--config"
SHELLS = ("bash", "zsh", "fish")
DESCRIPTION = """Print a script by which a shell completes the commands of qface, their
options, and the names of the shipped configs. For bash:

  qface completion bash > ~/.local/share/bash-completion/completions/qface

for zsh, in a folder of $fpath: qface completion zsh > _qface, and for fish:

  qface completion fish > ~/.config/fish/completions/qface.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="/".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    import shtab

    print(shtab.complete(_all_commands(), shell=args.shell))
    return 0


def _all_commands() -> argparse.ArgumentParser:
    """Returns one parser of every command, as a shell is to see it."""
    import shtab

    from qface_jax.launch.main import TRUST
    from qface_jax.settings import config as configs
    from qface_jax.tables import COMMANDS

    top = argparse.ArgumentParser(prog="qface", add_help=False)
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers()
    for name in COMMANDS:
        command: Command = COMMANDS[name]
        parser = commands.add_parser(name, help=command.summary)
        command.add_arguments(parser)
        parser.add_argument(TRUST, action="store_true", help="import what a run names")
        for action in _actions(parser):
            if CONFIG in action.option_strings:
                action.choices = tuple(configs.shipped())
            elif action.choices is not None:
                action.choices = tuple(action.choices)  # a dict is a sub-command to it
            elif action.nargs != 0:
                action.complete = shtab.FILE
    return top


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Returns the arguments of a parser and of its own commands."""
    actions = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                actions += _actions(inner)
        else:
            actions.append(action)
    return actions


COMMAND = Command(
    summary="print the script that completes words in bash, zsh or fish",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
