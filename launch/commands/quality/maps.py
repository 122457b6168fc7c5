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
from the lowest to the highest value of each map. With --beside the maps of several
models stand below the same pictures."""
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
        "--beside",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="another model whose maps are drawn below those of RUN; may be repeated",
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

    runs = [run_folder.read(path) for path in (args.run, *args.beside)]
    resize, antialias = _preparation(runs)
    pictures = sample(args.images, args.count, resize)
    shown = [
        down_up(picture, side=side, antialias=antialias)
        for side in sides
        for picture in pictures
    ]
    images = np.stack([np.asarray(picture) for picture in shown])
    maps = {}
    for model, label in zip(runs, _labels(runs), strict=True):
        for name, values in face_maps(model, images, which=args.which).items():
            maps[f"{label} {name}".strip()] = values
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


def _preparation(runs) -> tuple[str, bool]:
    """How all the runs prepare pictures: `data.resize` and `eval.antialias`."""
    ways = [(run.config.data.resize, run.config.eval.antialias) for run in runs]
    for run, way in zip(runs, ways, strict=True):
        if way != ways[0]:
            raise ConfigError(
                f"--beside: {run.path} prepares pictures with data.resize={way[0]}, "
                f"eval.antialias={way[1]}, {runs[0].path} with {ways[0][0]}, "
                f"{ways[0][1]}; maps of the same pictures need the same preparation: "
                "draw them one by one"
            )
    return ways[0]


def _labels(runs) -> list[str]:
    """What tells the runs apart: the end of each path, as long as need be."""
    if len(runs) == 1:
        return [""]
    paths = [run.path.absolute() for run in runs]
    if len(set(paths)) < len(paths):
        raise ConfigError("--beside: a run is given twice, expected different ones")
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return ["/".join(path.parts[-parts:]) for path in paths]


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
