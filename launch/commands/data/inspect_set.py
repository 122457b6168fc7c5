"""`qface data inspect`: what a set holds, and what looks wrong."""

import argparse
import json
from pathlib import Path

from qface_jax.launch.commands.command import positive
from qface_jax.launch.commands.data.opening import add_source, open_set

DESCRIPTION = "Count what a set holds and say what looks wrong."
_PAIRS = "pairs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "path", help="folder, .rec or .bin file, or 'pairs.txt::image folder'"
    )
    add_source(parser, _PAIRS)
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw a sample")
    parser.add_argument(
        "--sample", type=positive, default=2000, help="images to decode at most"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the facts, draws the sheet."""
    from qface_jax.configs.base import get_config
    from qface_jax.data_pipelines.sets.pair_sets import open_pair_set
    from qface_jax.data_pipelines.tools import inspection

    is_pairs = args.path.endswith(".bin") or "::" in args.path
    if args.source == _PAIRS or (args.source == "auto" and is_pairs):
        pairs = open_pair_set(args.path, get_config().eval)
        facts = inspection.inspect_pairs(pairs, args.sample)
        if args.sheet:
            inspection.pairs_sheet(pairs, args.sheet)
    else:
        source = open_set(args.path, args.source)
        facts = inspection.inspect_source(source, args.sample)
        if args.sheet:
            inspection.source_sheet(source, args.sheet)
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(_lines(facts)))
    if args.sheet:
        print(f"contact sheet: {args.sheet}")
    return 0


def _lines(facts: dict, indent: str = "") -> list[str]:
    """Returns nested facts as aligned lines, the warnings last."""
    lines = []
    for key, value in facts.items():
        if key == "warnings":
            continue
        if isinstance(value, dict) and key == "sample":
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, dict):
            text = ", ".join(f"{name} {count}" for name, count in value.items())
            lines.append(f"{indent}{key}: {text or 'none'}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines + [f"warning: {warning}" for warning in facts.get("warnings", [])]
