"""`qface train`: train a model, or go on with a run."""

import argparse
from pathlib import Path

from qface_jax.launch import cluster
from qface_jax.launch.commands.command import Command
from qface_jax.processes import hosts

DESCRIPTION = """Train a model. A run lives in --workdir; the same command goes on with
it after any interruption. Keys of the config are overridden by --config.KEY=VALUE."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME",
        help="a shipped config (--config=list says what each is), a .py file, "
        "or module:function",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="RUN",
        help="folder of the run; default runs/NAME",
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="RUN",
        help="start from another run's weights; its classes may be other ones",
    )
    parser.add_argument(
        "--allow-config-change",
        action="store_true",
        help="go on with a run that was started with another config",
    )
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Trains, evaluates, writes the report; returns the exit status."""
    from qface_jax.settings import config as configs

    if args.config == "list":
        print(configs.listing())
        return 0
    cluster.join(args)
    config = configs.load(args.config, args.overrides)

    name = Path(args.config.rpartition(":")[2]).stem
    workdir = args.workdir or Path("runs") / name

    from qface_jax.evals.results import before
    from qface_jax.evals.text_table import result_text
    from qface_jax.report.before_after import change_table, matching
    from qface_jax.report.page import read_results, write_report
    from qface_jax.sharded import parallel
    from qface_jax.train import start
    from qface_jax.train.interrupt import Interrupted
    from qface_jax.train.loop import train

    config = start.resolve(config, args.init_from, workdir)
    try:
        evaluated = train(
            config,
            workdir,
            mesh=parallel.make_mesh(),
            init_from=args.init_from,
            allow_config_change=args.allow_config_change,
        )
    except Interrupted as stop:
        hosts.say(
            f"stopped after step {stop.step:,}, saved in {workdir}; "
            "the same command goes on from there"
        )
        return 128 + stop.signal_number
    if hosts.first():
        for result in evaluated:
            print(result_text(result))
        if config.eval.before:
            for pair in matching(read_results(before(workdir)), evaluated):
                print(change_table(*pair))
        print(f"report: {write_report(workdir)}")
    return 0


COMMAND = Command(
    summary="train a model, or go on with a run",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
