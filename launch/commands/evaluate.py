"""`qface eval`: judge a run at every resolution."""

import argparse
from pathlib import Path

from qface_jax.launch import cluster
from qface_jax.launch.commands.command import Command, add_which
from qface_jax.processes import hosts

DESCRIPTION = """Evaluate a checkpoint of a run: ten-fold verification of every set at
112 px and degraded, cross- and same-resolution, or by the protocol that is named before
a set (PROTOCOL=SET). Features of benchmarks whose images are files are kept in
RUN/features: an evaluation that was cut off goes on there, and another one of the same
images embeds nothing. Without --config the run's own sets and settings are used; any
--config.eval.KEY=VALUE overrides them, for example
--config.eval.sets="('lfw.bin','pairs.txt::lfw_folder')". The result is in
RUN/eval/SET.json; with other settings than the run's own it is in
RUN/eval/SET.PROTOCOL-DIGEST.json, says what differs and replaces no other."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="RUN",
        help="folder of a run (the --workdir of qface train)",
    )
    add_which(parser)
    parser.add_argument(
        "--config",
        metavar="NAME",
        help="take the eval group of this config instead of the run's",
    )
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints a table per set, writes results and report."""
    from qface_jax.errors import ConfigError
    from qface_jax.evals import results
    from qface_jax.evals.text_table import result_text
    from qface_jax.inference.embedder import Embedder
    from qface_jax.inference.feature_store import FOLDER
    from qface_jax.report.examples import write_examples
    from qface_jax.report.page import write_report
    from qface_jax.runs import run_folder
    from qface_jax.settings import config as configs
    from qface_jax.settings import rules
    from qface_jax.sharded import parallel
    from qface_jax.train.evaluation import Evaluation
    from qface_jax.train.setup import check_devices

    cluster.join(args)
    trained = run_folder.read(args.checkpoint)
    foreign = [w for w in args.overrides if not w.startswith("--config.eval.")]
    if foreign:
        raise ConfigError(
            f"{' '.join(foreign)}: the run is as it was trained; only --config.eval.* "
            "can be changed here"
        )
    evaluated = configs.override(trained.config, args.overrides, eval_from=args.config)
    if not evaluated.eval.sets:
        raise ConfigError("eval.sets: is empty; give --config.eval.sets=...")
    mesh = parallel.make_mesh()
    check_devices(evaluated, rules.EVALUATION_SIZES, mesh)
    # The sets first: a missing file is known before the weights are read.
    evaluation = Evaluation(evaluated, run=trained, which=args.which)
    embedder = Embedder.from_run(trained, args.which, mesh, config=evaluated)
    checkpoint = {"path": str(trained.path), "which": args.which, "step": embedder.step}
    stores = trained.path / FOLDER if evaluated.eval.keep_features else None
    judged = evaluation.run(embedder, checkpoint=checkpoint, stores=stores)
    for images, result in zip(evaluation.sets, judged, strict=True):
        if hosts.first():
            resize = evaluated.eval.resize or evaluated.data.resize
            write_examples(trained.path, result, images, resize)
            print(result_text(result))
            print(f"result: {results.write(trained.path, result)}")
            if result.changed:
                print(
                    f"  with {results.changes_text(result)}; the result with the run's "
                    "own settings is another file and stays as it is"
                )
    if hosts.first():
        print(f"report: {write_report(trained.path)}")
    return 0


COMMAND = Command(
    summary="judge a run on its benchmarks",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
