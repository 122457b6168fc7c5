"""How a model in use is named: the folder of a run, or a file of weights."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from qface_jax.launch.commands.command import add_which, positive


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declares MODEL and how it is read."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="folder of a run (the --workdir of qface train, OUT of qface import), or "
        "a file .onnx, .pt, .pth, .ckpt or .safetensors, which is read into memory",
    )
    add_which(parser)
    of_file = parser.add_argument_group("of a MODEL that is a file")
    add_input(of_file)


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Declares the evaluation that says what a similarity means."""
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="RESULT",
        help="result of an evaluation of MODEL on pairs, as RUN/eval/SET.json",
    )


def add_batch_size(parser: argparse.ArgumentParser, *, default: int = 128) -> None:
    """Declares how many images a model takes at a time."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=default,
        metavar="N",
        help=f"images at a time; default: {default}",
    )


def add_resize(parser: argparse.ArgumentParser, *, of: str) -> None:
    """Declares how images of another size become 112 px.

    Args:
        parser: Of the command.
        of: What the command calls its model, MODEL or RUN.
    """
    parser.add_argument(
        "--resize",
        choices=("crop", "stretch"),
        help=f"of images that are not 112 x 112; default: as {of} does it",
    )


def add_input(parser: Any) -> None:
    """Declares what a network in a file is and takes."""
    from qface_jax.weights.convention import PRESETS
    from qface_jax.weights.structures import NAMES

    parser.add_argument(
        "--structure",
        choices=("auto", *NAMES, "onnx"),
        default="auto",
        metavar="NAME",
        help=f"what the network is, of {', '.join(NAMES)}; default: by its tensors",
    )
    presets = "; ".join(f"{name}: {value}" for name, value in PRESETS.items())
    parser.add_argument(
        "--preprocess",
        choices=tuple(PRESETS),
        metavar="NAME",
        help=f"what the network takes, of pixels x in 0..255. {presets}. Default: "
        "that of the structure; insightface for .onnx",
    )
    parser.add_argument(
        "--mean",
        type=_numbers,
        metavar="R,G,B",
        help="instead of the preset's; one number or three, of pixels 0..255",
    )
    parser.add_argument(
        "--std", type=_numbers, metavar="R,G,B", help="instead of the preset's"
    )
    parser.add_argument(
        "--color-order",
        choices=("RGB", "BGR"),
        help="of the channels that the network takes, instead of the preset's",
    )


def load_model(args: argparse.Namespace) -> Any:
    """Returns the `qface_jax.Model` that the arguments name, and says how it was read.

    Raises:
        ConfigError: as `qface_jax.load`.
    """
    from qface_jax.api.loading import load

    return _saying_how(args, load(args.model, **_options(args)))


def read_model_weights(args: argparse.Namespace, parts: Collection[str]) -> Any:
    """Returns the `ModelWeights` that the arguments name, and says how they were read.

    Args:
        args: The arguments.
        parts: Paths in the checkpoint besides those of the backbone.

    Raises:
        ConfigError: as `qface_jax.load`.
    """
    from qface_jax.api import model_weights

    weights = model_weights.read(
        args.model, parts=lambda config: parts, **_options(args)
    )
    return _saying_how(args, weights)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("which", "structure", "preprocess", "mean", "std", "color_order")
    return {name: getattr(args, name) for name in names}


def _saying_how(args: argparse.Namespace, read: Any) -> Any:
    from qface_jax.processes import hosts

    for note in read.notes:
        hosts.say(f"{args.model}: {note}")
    return read


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))
