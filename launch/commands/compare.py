"""`qface compare`: how similar two face images are, and what that means."""

import argparse
import json
from pathlib import Path
from typing import Any

from qface_jax.launch.commands.command import Command
from qface_jax.launch.commands.model import add_calibration, add_model, load_model

DESCRIPTION = """Compare two aligned face images by a model: the similarity (cosine, -1
to 1) at their own size and as if B, or both, had been smaller. With --calibration each
similarity has its false match rate (FMR): how often two people are at least so similar
in that evaluation, at that resolution, with its 95 % interval."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    add_model(parser)
    parser.add_argument("a", type=Path, metavar="A", help="an image")
    parser.add_argument("b", type=Path, metavar="B", help="an image")
    add_calibration(parser)
    parser.add_argument(
        "--resolutions",
        type=_sides,
        metavar="SIDES",
        help="px that images go down to and up again from, separated by commas; "
        "default: those of the calibration, else 56,28,14,7",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compares, and prints the table."""
    from qface_jax.api import calibrating
    from qface_jax.api.comparison import compare
    from qface_jax.processes import hosts

    model, calibration = load_model(args), None
    if args.calibration is not None:
        calibration = calibrating.calibration_of(model, args.calibration)
    else:
        hosts.say(
            f"no false match rates without --calibration: {calibrating.how(model)}"
        )
    sides = args.resolutions
    if sides is None:
        sides = (56, 28, 14, 7) if calibration is None else calibration.sides
    comparison = compare(model, args.a, args.b, sides=sides, calibration=calibration)
    print(
        json.dumps(_facts(args, comparison), indent=1)
        if args.json
        else _text(args, comparison)
    )
    return 0


def _facts(args: argparse.Namespace, comparison: Any) -> dict[str, Any]:
    def similarity(one: Any) -> dict[str, Any]:
        rate = one.false_match
        return {
            "similarity": one.cosine,
            "false_match": None if rate is None else rate._asdict(),
        }

    return {
        "model": str(args.model),
        "calibration": None if args.calibration is None else str(args.calibration),
        "images": [
            {
                "path": str(path),
                "width": status.width,
                "height": status.height,
                "scores": {name: both[n] for name, both in comparison.scores.items()},
            }
            for n, (path, status) in enumerate(
                zip((args.a, args.b), comparison.images, strict=True)
            )
        ],
        "rows": [
            {
                "side": row.side,
                "cross": similarity(row.cross),
                "same": similarity(row.same),
            }
            for row in comparison.rows
        ],
    }


def _text(args: argparse.Namespace, comparison: Any) -> str:
    from qface_jax.evals.measures.quality_scores import title
    from qface_jax.evals.text_table import aligned

    lines = []
    for n, (letter, path) in enumerate((("A", args.a), ("B", args.b))):
        status = comparison.images[n]
        scores = "".join(
            f", {title(name)} {both[n]:.4g}" for name, both in comparison.scores.items()
        )
        lines.append(f"{letter}: {path}, {status.width} x {status.height} px{scores}")
    rated = args.calibration is not None
    rate = ["FMR (95 % interval)"] if rated else []
    table = [["", "B degraded", *rate, "both degraded", *rate]]
    for row in comparison.rows:
        name = "own size" if row.side == comparison.rows[0].side else f"{row.side} px"
        cells = [name]
        for one in (row.cross, row.same):
            cells += [f"{one.cosine:.4f}", *([_rate(one.false_match)] if rated else [])]
        table.append(cells)
    return "\n".join([*lines, "", *aligned(table, left=[True], ruled=False)])


def _rate(rate: Any) -> str:
    if rate is None:
        return "not evaluated"
    shown = "0" if rate.reached == 0 else f"{100 * rate.rate:.3g} %"
    return f"{shown} ({100 * rate.low:.2g} to {100 * rate.high:.2g} %)"


def _sides(text: str) -> list[int]:
    sides = [int(word) for word in text.split(",")]
    if not all(1 <= side <= 112 for side in sides):
        raise argparse.ArgumentTypeError(
            f"got {text}, must be whole numbers within 1 .. 112, as in 28,14,7"
        )
    return sides


COMMAND = Command(
    summary="similarity of two images, and how often two people reach it",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
