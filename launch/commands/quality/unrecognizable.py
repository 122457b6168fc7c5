"""`qface quality ui-cluster`: where unrecognizable images lie, and faces from them."""

import argparse
import dataclasses
from pathlib import Path

from qface_jax.launch.commands.command import add_which

DESCRIPTION = """Embed unrecognizable images (UIs) and training faces by a run, and say
how tight the UIs gather and how far from their centre the faces stand. UIs are those of
the run's config: the images at recognizability.ui_path, or training images through
degrade.unrecognizable (qface data preview --unrecognizable draws them). For an imported
model give --config=NAME with --config.data.path=DIR. The picture goes into the run's
report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--config",
        metavar="NAME",
        help="take data, UIs and degradation of this config instead of the run's; "
        "either way --config.KEY=VALUE overrides them",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=2048,
        metavar="N",
        help="training faces at most; default 2048",
    )
    add_which(parser)
    parser.add_argument(
        "--out", type=Path, metavar="PNG", help="default RUN/samples/ui_cluster.png"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the distances and draws them."""
    from qface_jax.data_pipelines.sources.chosen_records import first_of_run
    from qface_jax.data_pipelines.sources.training import training_source
    from qface_jax.data_pipelines.sources.unrecognizable_images import (
        open_unrecognizable,
    )
    from qface_jax.errors import ConfigError
    from qface_jax.inference import unrecognizable_cluster
    from qface_jax.inference.embedder import Embedder
    from qface_jax.report.drawings import unrecognizable_distances
    from qface_jax.report.page import write_report
    from qface_jax.runs import run_folder
    from qface_jax.settings import config as configs
    from qface_jax.sharded import parallel

    if args.count < 1:
        raise ConfigError(f"--count: got {args.count}, must be at least 1")
    trained = run_folder.read(args.run)
    if args.config is None:
        config = configs.override(trained.config, args.overrides)
    else:
        config = configs.load(args.config, args.overrides)
    source = training_source(config)
    embedder = Embedder.from_run(
        trained, args.which, parallel.make_mesh(), batch_size=config.eval.batch_size
    )
    print(f"{args.run}, step {embedder.step}")
    embedder = dataclasses.replace(
        embedder, resize=config.data.resize, antialias=config.eval.antialias
    )
    images = open_unrecognizable(config, source)
    chosen = first_of_run(source, args.count, seed=config.seed)
    measured = unrecognizable_cluster.measure(images, chosen, embedder)
    print(f"{images.describe()}; {len(chosen):,} of {len(source):,} training faces")
    cluster, faces = measured.cluster, measured.faces
    print(
        "\n".join(
            unrecognizable_distances.lines(cluster.cosines, faces, cluster.tightness)
        )
    )
    path = args.out or trained.path / run_folder.SAMPLES / "ui_cluster.png"
    unrecognizable_distances.draw(path, cluster.cosines, faces)
    print(f"picture: {path}")
    if args.out is None:
        print(f"report: {write_report(trained.path)}")
    return 0
