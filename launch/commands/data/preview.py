"""`qface data preview`: what the network sees after degradation."""

import argparse
from pathlib import Path
from typing import Any

from qface_jax.errors import ConfigError
from qface_jax.launch.commands.command import positive

DESCRIPTION = """Draw pictures of the training set, each beside several degradations of
it: pairs where the objective takes two views, one below the other where the recipe
draws both. With --checkpoint each has its quality u below it, by the norm of its
feature, and a frame: red where a pair is contrasted (qgface.partition,
qgface.threshold; of single views, where u is not above the threshold), green
elsewhere."""
# What may differ from the run that judges: what is shown, and how it is partitioned.
_SHOWN = tuple(
    f"--config.{key}"
    for key in (
        "data.",
        "degrade.",
        "qgface.",
        "recognizability.ui_",
        "objective=",
        "seed=",
    )
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "--config",
        metavar="NAME",
        help="shipped config or path; --config.KEY=VALUE; default: the config of RUN",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="RUN",
        help="folder of a run (the --workdir of qface train) that judges the pictures",
    )
    parser.add_argument(
        "--unrecognizable",
        action="store_true",
        help="draw the unrecognizable images of the config instead (its group "
        "recognizability): made ones beside what they are made of, or those of ui_path",
    )
    parser.add_argument("--out", type=Path, default=Path("preview.png"), help="PNG")
    parser.add_argument("--count", type=positive, default=32, help="images")


def run(args: argparse.Namespace) -> int:
    """Draws the sheet."""
    from qface_jax import objectives
    from qface_jax.data_pipelines.tools.preview import preview, preview_unrecognizable
    from qface_jax.runs import run_folder

    if args.unrecognizable:
        preview_unrecognizable(_shown_config(args), args.out, args.count)
        print(f"preview: {args.out}")
        return 0

    config, judge = _shown_config(args), None
    views = objectives.entry(config).views
    if args.checkpoint is not None:
        from qface_jax.inference.picture_quality import judge_by

        judge = judge_by(run_folder.read(args.checkpoint), config, views=views)
    preview(config, args.out, args.count, views=views, judge=judge)
    print(f"preview: {args.out}")
    return 0


def _shown_config(args: argparse.Namespace) -> Any:
    """The config whose pictures are drawn: the one named, or that of the run."""
    from qface_jax.runs import run_folder
    from qface_jax.settings import config as configs

    if args.checkpoint is None:
        if args.config is None:
            raise ConfigError(
                "--config: got none; give --config=NAME, or --checkpoint=RUN to take "
                "the config of a run"
            )
        return configs.load(args.config, args.overrides)
    _refuse_foreign(args.overrides)
    if args.config is None:
        return configs.override(run_folder.read(args.checkpoint).config, args.overrides)
    return configs.load(args.config, args.overrides)


def _refuse_foreign(overrides: list[str]) -> None:
    """Raises for what would change the run that judges."""
    foreign = [word for word in overrides if not word.startswith(_SHOWN)]
    if foreign:
        known = ", ".join(f"{key}*" for key in _SHOWN)
        raise ConfigError(
            f"{' '.join(foreign)}: the run is as it was trained; with --checkpoint "
            f"only these can be changed: {known}"
        )
