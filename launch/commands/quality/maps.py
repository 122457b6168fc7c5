"""`qface quality maps`: where a model looks, over pictures at several resolutions."""

import argparse
from pathlib import Path

from qface_jax.errors import ConfigError
from qface_jax.launch.commands.command import add_which

DESCRIPTION = """Draw maps over pictures: the attention of a run with a perceptibility
attention module, and of every run two class activation maps of the last feature map,
towards the nearest class centre, or towards the feature itself where a run has no
centres: "activation" (Grad-CAM) and "contribution" (HiResCAM, each pixel's own part).
Each picture is shown at each resolution, a block of the sheet for each; the colours go
from the lowest to the highest value of each map."""
_SIDE = 112


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run or an imported model"
    )
    parser.add_argument(
        "images",
        type=Path,
        metavar="IMAGES",
        help="a folder with images at any depth, an image, or a .bin file of pairs",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("maps.png"), help="PNG to write; maps.png"
    )
    parser.add_argument(
        "--count",
        type=int,
        default=8,
        metavar="N",
        help="pictures, spread evenly over IMAGES; default 8",
    )
    parser.add_argument(
        "--resolutions",
        default="112,28,14,7",
        metavar="SIDES",
        help="pixels that each goes down to and up again from, separated by commas; "
        "default 112,28,14,7",
    )
    add_which(parser)


def run(args: argparse.Namespace) -> int:
    """Draws the sheet."""
    sides = _sides(args.resolutions)
    if args.count < 1:
        raise ConfigError(f"--count: got {args.count}, must be at least 1")

    import numpy as np

    from qface_jax.data_pipelines.degradation.steps import down_up
    from qface_jax.data_pipelines.tools.sample_images import sample
    from qface_jax.inference.face_maps import face_maps
    from qface_jax.report.drawings.heat_map import write_maps
    from qface_jax.runs import run_folder

    trained = run_folder.read(args.run)
    pictures = sample(args.images, args.count, trained.config.data.resize)
    antialias = trained.config.eval.antialias
    shown = [
        down_up(picture, side=side, antialias=antialias)
        for side in sides
        for picture in pictures
    ]
    images = np.stack([np.asarray(picture) for picture in shown])
    maps = face_maps(trained, images, which=args.which)
    captions = [f"{side} px" for side in sides for _ in pictures]
    write_maps(args.out, images, maps, captions, columns=len(pictures))
    print(
        f"{len(pictures)} pictures at {', '.join(map(str, sides))} px; "
        f"maps: {', '.join(maps)}"
    )
    for name, values in maps.items():
        if nothing := int((values.max((1, 2)) == 0).sum()):
            print(
                f"{name}: zero everywhere in {nothing} of {len(images)}: nothing in "
                "them speaks for the centre, or the feature, by this measure"
            )
    print(f"picture: {args.out}")
    return 0


def _sides(text: str) -> list[int]:
    try:
        sides = [int(word) for word in text.split(",")]
    except ValueError:
        sides = []
    if not sides or not all(1 <= side <= _SIDE for side in sides):
        raise ConfigError(
            f"--resolutions: got {text!r}, expected whole numbers within 1 .. {_SIDE} "
            "separated by commas, as in 112,28,14,7"
        )
    return list(dict.fromkeys(sides))
