"""`qface data import`: a set of images as ArrayRecord shards."""

import argparse
from pathlib import Path

from qface_jax.launch.commands.data.opening import add_source, open_set

DESCRIPTION = """Copy a set into ArrayRecord shards. OUT is written at once when all is
done; until then OUT.importing keeps what is finished, and the same command goes on from
there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "path",
        help="folder or .rec file; for synthetic faces IDENTITIESxIMAGES, as in 200x20",
    )
    parser.add_argument("out", type=Path, help="folder to make")
    add_source(parser)
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out records without an image"
    )
    parser.add_argument(
        "--drop-small-identities",
        type=int,
        default=0,
        metavar="N",
        help="leave out identities with fewer than N images",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of synthetic faces (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Imports, and says what came out."""
    from qface_jax.data_pipelines.sources.training import check_gaps
    from qface_jax.data_pipelines.tools.importer import import_source

    source = open_set(args.path, args.source, args.seed, args.drop_small_identities)
    check_gaps(source)
    report = import_source(source, args.out, skip_broken=args.skip_broken)
    print(
        f"{args.out}: {report['images']:,} images of {report['identities']:,} "
        f"identities, {report['bytes'] / 1e6:,.1f} MB; {report['skipped']} skipped, "
        f"{report['odd']} not 112x112"
    )
    for problem in report["examples"]:
        print(f"  {problem}")
    print(
        "use it with --config.data.source=array_record "
        f"--config.data.path={args.out.resolve()}"
    )
    return 0
