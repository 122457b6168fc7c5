"""`qface gst`: draw the gradient scaling term of margin functions."""

import argparse
import math
from pathlib import Path

from qface_jax.launch.commands.command import Command

DESCRIPTION = """Draw how strongly each margin function pulls on a sample (|gradient
scaling term|, AdaFace Fig. 3) over its angle and image quality, and print a table. The
margins' numbers are changed by --config.loss.NAME.KEY=VALUE. A margin of your own is
named module:object."""
ALL = "softmax,sphereface,cosface,arcface,curricularface,magface,adaface"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "--margin", default=ALL, metavar="NAMES", help=f"separated by commas; {ALL}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("gst.png"), help="PNG to write; gst.png"
    )
    parser.add_argument(
        "--separation",
        type=float,
        default=180.0,
        metavar="DEGREES",
        help="angle between the two class centres, in (0, 180]; default 180",
    )
    parser.add_argument(
        "--curricular-t",
        type=float,
        default=0.5,
        metavar="T",
        help="CurricularFace's moving average of the own cosine; default 0.5",
    )
    parser.set_defaults(config=None)


def run(args: argparse.Namespace) -> int:
    """Draws the picture and prints the table."""
    from qface_jax import tables
    from qface_jax.configs import base, document
    from qface_jax.errors import ConfigError
    from qface_jax.losses.margins.margin import build_margin
    from qface_jax.report.drawings import gst_picture
    from qface_jax.settings import config as configs

    names = [name.strip() for name in args.margin.split(",") if name.strip()]
    unknown = [name for name in names if name not in tables.MARGINS]
    if unknown or not names:
        raise ConfigError(
            f"--margin: got {args.margin!r}, must be of {', '.join(tables.MARGINS)}, "
            "or module:object for your own"
        )
    if not 0.0 < args.separation <= 180.0:
        raise ConfigError(f"--separation: got {args.separation}, must be in (0, 180]")
    margins = {}
    for name in names:
        tables.trust(name)
        config = base.get_config()
        config.loss.margin = name
        config = configs.override(config, args.overrides)
        options = document.options_of(config, "margin", name)
        margins[name] = build_margin(name, options)
    loss = config.loss
    separation = math.radians(args.separation)
    settings = {
        "scale": loss.scale,
        "separation": separation,
        "mean_cosine": args.curricular_t,
    }
    panels = [
        gst_picture.panel(name, margin, **settings) for name, margin in margins.items()
    ]
    gst_picture.draw(panels, args.out, scale=loss.scale, separation=separation)
    print(gst_picture.table(margins, **settings))
    print(f"picture: {args.out}")
    return 0


COMMAND = Command(
    summary="draw the gradient scaling term of margins",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
