"""`qface export`: a model as a file for other programs."""

import argparse
import json
from pathlib import Path
from typing import Any

from qface_jax.launch.commands.command import Command, positive
from qface_jax.launch.commands.model import add_model, read_model_weights

DESCRIPTION = """Write a model as a file that other programs run: .onnx (onnxruntime),
.stablehlo (jax.export, with JAX alone), .tflite (LiteRT), or its weights as
.safetensors (the published PyTorch module).

The file takes `images`, aligned faces of 112 x 112 px, and returns `embedding` and
`norm`, the quality of each image. By default images are uint8 RGB pixels [b, 112, 112,
3], b free, and embeddings have length 1. It is run by its own runtime on random images
and faces and compared with MODEL, one by one and by eight; above --tolerance nothing is
written. OUT.json says what it takes and how far it is from MODEL."""
_CALIBRATION = 128  # images that int8 is calibrated by, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    from qface_jax.tables import EXPORT_FORMATS

    add_model(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write")
    parser.add_argument(
        "--format",
        metavar="NAME",
        help=f"what is written: {', '.join(EXPORT_FORMATS)}, or module:object of your "
        "own; default: by the ending of OUT",
    )
    _add_interface(parser.add_argument_group("what the file takes and returns"))
    _add_precision(parser.add_argument_group("precision and checks"))
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_interface(group: Any) -> None:
    group.add_argument(
        "--input",
        choices=("uint8", "float32", "normalized"),
        default="uint8",
        help="uint8: pixels 0..255; float32: the same as floats; normalized: floats "
        "(pixel - mean) / std, by the network's own mean and std; default: uint8",
    )
    group.add_argument(
        "--layout",
        choices=("nhwc", "nchw"),
        default="nhwc",
        help="images [b, 112, 112, 3] or [b, 3, 112, 112]; default: nhwc",
    )
    group.add_argument(
        "--input-color-order",
        choices=("RGB", "BGR"),
        default="RGB",
        help="of the images' channels; default: RGB",
    )
    group.add_argument(
        "--flip",
        action="store_true",
        help="add the raw feature of the mirror image: twice the time",
    )
    group.add_argument(
        "--raw",
        dest="unit",
        action="store_false",
        help="return raw features as `embedding`, not of length 1",
    )
    group.add_argument(
        "--no-norm", dest="norm", action="store_false", help="leave out `norm`"
    )
    group.add_argument(
        "--centres",
        action="store_true",
        help="also return `class_cosines`, to the trained class centres; in "
        ".safetensors the centres themselves are head.weight",
    )
    group.add_argument(
        "--batch",
        type=positive,
        metavar="N",
        help="take exactly N images; default: any number",
    )


def _add_precision(group: Any) -> None:
    group.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="float16: .onnx and .tflite; int8: .onnx, calibrated by --images; "
        "default: float32",
    )
    group.add_argument(
        "--images",
        type=Path,
        metavar="PATH",
        help="face images as the model will see them, as of `qface embed`, to compare "
        f"on (16) and to calibrate int8 by (up to {_CALIBRATION}); default: drawn "
        "faces",
    )
    group.add_argument(
        "--pairs",
        metavar="SET",
        help="pairs, named as in eval.sets (a .bin file, pairs.txt::FOLDER), on which "
        "the accuracy at each resolution is measured with MODEL and with the file",
    )
    group.add_argument(
        "--folds",
        type=positive,
        metavar="K",
        help="of --pairs; default: those that the set is published with, else 10",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="largest difference, as a share of an output's norm; default: 1e-4, for "
        "float16 0.02, for int8 0.25",
    )


def run(args: argparse.Namespace) -> int:
    """Exports, and says what was written and how far it is from the model."""
    from qface_jax import tables
    from qface_jax.api.model_weights import HEAD
    from qface_jax.data_pipelines.tools import sample_images
    from qface_jax.errors import ConfigError
    from qface_jax.export import accuracy, exporting
    from qface_jax.export.interface import Interface
    from qface_jax.export.subject import INT8, Request, subject_of
    from qface_jax.processes import hosts

    if args.tolerance is not None and not args.tolerance > 0:
        raise ConfigError(f"--tolerance: got {args.tolerance:g}, must be above 0")
    if args.format is not None:
        tables.trust(args.format)
    name, chosen = exporting.format_of(args.out, args.format)
    weights = read_model_weights(args, [HEAD] if args.centres else [])
    subject = subject_of(weights, with_centres=args.centres)
    interface = Interface(
        args.input,
        args.layout,
        args.input_color_order,
        args.flip,
        args.unit,
        args.norm,
        args.centres,
        args.batch,
    )
    resize = weights.config.data.resize
    images = None
    if args.precision == INT8 and args.images is not None:
        images = sample_images.sample(args.images, _CALIBRATION, resize)
    request = Request(interface, args.precision, images)
    exporting.check(subject, chosen, request, args.out)
    evaluation = None
    if args.pairs is not None:
        evaluation = accuracy.opened(args.pairs, subject, folds=args.folds or 0)
    pictures = exporting.pictures_of(args.images, resize)
    judged: list[accuracy.Accuracy] = []

    def judge(runner: Any) -> None:
        if evaluation is not None:
            judged.extend(accuracy.compare(evaluation, subject, interface, runner))

    hosts.say(f"writing {args.out} and comparing it with {args.model}")
    written = exporting.export(
        subject,
        args.out,
        chosen,
        request,
        pictures=pictures,
        tolerance=args.tolerance,
        judge=judge,
    )
    facts = written.facts | {
        "out": str(args.out),
        "name": name,
        "accuracy": [one._asdict() for one in judged],
    }
    text = json.dumps(facts, indent=1) if args.json else _text(written, judged)
    print(text)
    return 0


def _text(written: Any, judged: list[Any]) -> str:
    from qface_jax.evals.text_table import aligned

    size = written.path.stat().st_size / 2**20
    columns: dict[str, dict[str, str]] = {}
    for name, compared in written.differences.items():
        for one in compared:
            column = columns.setdefault(f"{one.images}, by {one.batch}", {})
            column[name] = f"{one.difference:.1e}"
    table = [["", *columns]]
    for name in written.differences:
        table.append([name, *(column[name] for column in columns.values())])
    lines = [f"{written.path}: {written.format.title}, {size:.1f} MiB"]
    lines += ["largest difference from MODEL, as a share of the norm:"]
    lines += aligned(table, left=[True], ruled=False)
    if judged:
        rows = [["accuracy", "MODEL", "file"]]
        for one in judged:
            rows.append(
                [one.label, f"{100 * one.model:.2f} %", f"{100 * one.file:.2f} %"]
            )
        lines += ["", *aligned(rows, left=[True], ruled=False)]
    return "\n".join(lines)


COMMAND = Command(
    summary="a model as a file for onnxruntime, JAX, LiteRT or PyTorch",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
