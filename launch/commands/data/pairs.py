"""`qface data pairs`: a verification set of one's own people."""

import argparse
from pathlib import Path

from qface_jax.launch.commands.command import positive

DESCRIPTION = """Draw pairs of images of a folder with a folder of images for each
person, as many of one person as of two, and write them as a list that `qface eval`
takes: --config.eval.sets="('OUT::FOLDER',)". No pair is drawn twice. The people should
not be among those that a model was trained on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="FOLDER/person/image, aligned faces"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="list to write, .txt")
    parser.add_argument(
        "--pairs",
        type=positive,
        default=1000,
        metavar="N",
        help="pairs at most; default: 1000",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default: 0")


def run(args: argparse.Namespace) -> int:
    """Writes the list, and says how it is evaluated."""
    from qface_jax.data_pipelines.sources.image_folder import FolderSource
    from qface_jax.data_pipelines.tools import pair_drawing

    source = FolderSource(args.folder)
    drawn = pair_drawing.draw_pairs(source.labels(), args.pairs, seed=args.seed)
    pair_drawing.write_pairs(args.out, source, drawn)
    print(
        f"{args.out}: {len(drawn):,} pairs of {source.num_classes:,} people, half of "
        f"them of one person\nevaluate on it with "
        f"--config.eval.sets=\"('{args.out}::{args.folder}',)\""
    )
    return 0
