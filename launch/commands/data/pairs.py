"""`qface data pairs`: a verification set of one's own people."""

import argparse
from pathlib import Path

from qface_jax.errors import ConfigError
from qface_jax.launch.commands.command import positive
from qface_jax.launch.commands.data.opening import add_source, open_set

DESCRIPTION = """Draw pairs of images, as many of one person as of two; no pair is drawn
twice. OUT.bin holds the images, of a training set of any kind, and is evaluated by
--config.eval.sets="('OUT.bin',)"; OUT.txt is a list of the files of a folder with a
folder of images for each person: --config.eval.sets="('OUT.txt::PATH',)". The people
should not be among those that a model is trained on: with --outside-subset=0.99 the
pairs are of the hundredth of the identities that a training with
--config.data.subset=0.99 --config.data.subset_of=identities leaves out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("path", metavar="PATH", help="training set, aligned faces")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="file to write, .bin or .txt"
    )
    parser.add_argument(
        "--pairs",
        type=positive,
        default=1000,
        metavar="N",
        help="pairs at most; default: 1000",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws; default: 0")
    parser.add_argument(
        "--outside-subset",
        type=float,
        metavar="SHARE",
        help="draw from the identities alone that data.subset=SHARE leaves out",
    )
    parser.add_argument(
        "--subset-seed",
        type=int,
        default=0,
        metavar="SEED",
        help="data.subset_seed of that training; default: 0",
    )
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="mirror the second image of each pair (.bin)",
    )
    add_source(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the pairs, and says how they are evaluated."""
    from qface_jax.data_pipelines.sources.image_folder import FolderSource
    from qface_jax.data_pipelines.sources.subset import Subset, outside_subset
    from qface_jax.data_pipelines.tools import pair_drawing

    as_list = args.out.suffix == ".txt"
    if args.out.suffix not in (".bin", ".txt"):
        raise ConfigError(f"OUT: got {args.out}, expected a name in .bin or .txt")
    if as_list and args.mirror:
        raise ConfigError("--mirror: a list names files as they are; write a .bin file")
    folder = Path(args.path)
    source = FolderSource(folder) if as_list else open_set(args.path, args.source)
    share = args.outside_subset
    if share is not None:
        if not 0 < share < 1 or not 0 <= args.subset_seed < 2**31:
            raise ConfigError(
                f"got --outside-subset={share:g} --subset-seed={args.subset_seed}, "
                "must be within (0, 1), and within 0 .. 2^31 - 1"
            )
        source = outside_subset(source, Subset(share, "identities", args.subset_seed))
    drawn = pair_drawing.draw_pairs(source.labels(), args.pairs, seed=args.seed)
    if as_list:
        pair_drawing.write_list(args.out, folder, source, drawn)
    else:
        pair_drawing.write_images(args.out, source, drawn, mirrored=args.mirror)
    evaluated = f"{args.out}::{args.path}" if as_list else str(args.out)
    print(
        f"{args.out}: {len(drawn):,} pairs of {source.num_classes:,} people, half of "
        f"them of one person\nevaluate on it with "
        f"--config.eval.sets=\"('{evaluated}',)\""
    )
    return 0
