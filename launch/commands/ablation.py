"""`qface ablation`: train every setting of a paper's table, and print the table."""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from qface_jax.ablation.submission import SEED, Run, plan, with_drawn_faces
from qface_jax.configs.ablations import ABLATIONS, Ablation
from qface_jax.errors import ConfigError
from qface_jax.launch.children import Children
from qface_jax.launch.commands.command import Command
from qface_jax.processes import hosts

DESCRIPTION = """Train every setting of a table with every seed, one run after another,
and print accuracy at every resolution beside the paper's numbers. A run is
WORKDIR/CONFIG-seedS and belongs to every table that has its setting; what is finished
is not run again, what was interrupted goes on. --config.KEY=VALUE holds for all runs.
Exit status 1: some runs failed, the others were done."""
QFACE = (sys.executable, "-m", "qface_jax.launch.main")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    titles = "; ".join(f"{name}: {table.title}" for name, table in ABLATIONS.items())
    parser.add_argument("table", choices=ABLATIONS, metavar="TABLE", help=titles)
    parser.add_argument(
        "--size",
        choices=("demo", "paper"),
        default="demo",
        help="demo (default): synthetic faces, a small backbone, 1000 steps; paper: "
        "its recipe, give the data with --config.data.path and --config.eval.path",
    )
    parser.add_argument(
        "--seeds", default="0,1,2", metavar="S,...", help="default %(default)s"
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        help="folder of the runs and tables; default runs/ablation-SIZE",
    )
    parser.add_argument(
        "--only", metavar="LABEL,...", help="train these rows only, as in A,E"
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="RUN",
        help="for tables that fine-tune: the run that all rows start from; at "
        "--size=demo one is trained first",
    )
    parser.add_argument(
        "--submit",
        metavar="COMMAND",
        help="hand every run to a cluster: COMMAND gets `qface train ...` as its last "
        "words, as in --submit='sbatch --nodes=1 launch/slurm.sbatch'",
    )
    parser.add_argument(
        "--print-only", action="store_true", help="train nothing, print the table"
    )
    parser.set_defaults(config=None)


def run(args: argparse.Namespace) -> int:
    """Trains what is missing, prints and writes the table; returns the exit status."""
    table, seeds = ABLATIONS[args.table], _seeds(args)
    submit = _submit(args.submit)
    workdir = (args.workdir or Path("runs") / f"ablation-{args.size}").absolute()
    failed: list[str] = []
    if not args.print_only:
        with Children() as children:
            failed = _train(plan(args, table, seeds, workdir), submit, children)
        if children.signal_number:
            hosts.say("stopped; the same command goes on from there")
            return 128 + children.signal_number
        if submit:
            again = ["qface", "ablation", args.table, f"--size={args.size}"]
            again += [f"--seeds={args.seeds}", f"--workdir={workdir}", "--print-only"]
            print(f"the table, now and when the jobs are done:\n{shlex.join(again)}")
            return _tell(failed)
    _show(args.table, table, args.size, seeds, workdir)
    return _tell(failed)


def _tell(failed: list[str]) -> int:
    if not failed:
        return 0
    hosts.say(f"{len(failed)} failed, their errors are above:\n" + "\n".join(failed))
    return 1


def _seeds(args: argparse.Namespace) -> list[int]:
    words = args.seeds.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"--seeds: got {args.seeds!r}, must be numbers as in 0,1,2")
    if any(word.startswith(SEED) for word in args.overrides):
        raise ConfigError("--config.seed: here the seeds are given by --seeds=0,1,2")
    return list(dict.fromkeys(map(int, words)))


def _submit(command: str | None) -> list[str]:
    """The words of --submit; none where the runs are done here."""
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError:  # a quote without its other
        words = []
    if not words or shutil.which(words[0]) is None:
        raise ConfigError(
            f"--submit: got {command!r}, must begin with a program that is found here, "
            "as in --submit='sbatch launch/slurm.sbatch'"
        )
    return words


def _train(runs: list[Run], submit: list[str], children: Children) -> list[str]:
    """Runs or submits what is not finished; returns a line for each that failed."""
    from qface_jax.train.monitor import clock

    # Every mistake is known before anything is run.
    runs, drawing = with_drawn_faces(runs)
    wanted = [run.wanted() for run in runs]
    if not all(config.eval.sets for config in wanted):
        raise ConfigError("eval.sets: is empty, so would be the table; name some sets")
    if drawing and children.run([*QFACE, *drawing]) and not children.signal_number:
        raise ConfigError(f"{drawing[-1]}: the faces could not be drawn, see above")
    left = [
        run
        for run, config in zip(runs, wanted, strict=True)
        if not _finished(run.folder, config)
    ]
    done, failed, start = len(runs) - len(left), [], time.monotonic()
    if done:
        hosts.say(f"{done} of {len(runs)} runs are finished already")
    command = [*submit, "qface"] if submit else list(QFACE)
    for i, run in enumerate(left):
        if children.signal_number:
            break
        spent = time.monotonic() - start
        rest = clock(spent / i * (len(left) - i)) if i else "not known yet"
        hosts.say(
            f"run {done + i + 1} of {len(runs)}: {run.folder.name}"
            + ("" if submit else f" (elapsed {clock(spent)}, ETA {rest})")
        )
        status = children.run([*command, *run.train()])
        if status and not children.signal_number:
            failed.append(f"  {run.folder.name}: exit status {status}")
    return failed


def _finished(folder: Path, wanted: Any) -> bool:
    """Whether the run was evaluated after its last step, with this very config."""
    from qface_jax.ablation import table as ablation
    from qface_jax.configs import document

    try:
        record = ablation.read_run(folder, _last_step)
    except ConfigError:
        return False  # not begun, or qface train says what is wrong with it
    return record.finished and not document.differences(record.config, wanted)


def _last_step(config: Any, images: int) -> int:
    from qface_jax.train.optim import length

    return length(config, images).total_steps


def _show(
    name: str, table: Ablation, size: str, seeds: list[int], workdir: Path
) -> None:
    """Prints the table and writes it beside the runs."""
    from qface_jax.ablation import table as ablation
    from qface_jax.ablation import table_text

    comparison = ablation.collect(name, table, size, seeds, workdir, _last_step)
    print(table_text.text(comparison))
    for path in table_text.write(comparison, workdir):
        print(f"table: {path}")


COMMAND = Command(
    summary="train and compare the rows of a table",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
