"""`qface import`: a model from PyTorch, safetensors or ONNX becomes a run."""

import argparse
from pathlib import Path
from typing import Any

from qface_jax.launch.commands.command import Command
from qface_jax.launch.commands.model import add_input

DESCRIPTION = """Read a face recognition model and write it as the folder of a run, OUT:
`qface eval --checkpoint=OUT` judges it, `qface train --init-from=OUT` trains it on.

WEIGHTS is a PyTorch file (.pt, .pth, .ckpt; PyTorch itself is not needed, and nothing
in the file is executed) or .safetensors of a known structure, or any .onnx file from an
image to an embedding, whose weights then become parameters.

The import ends with a check against the source: an .onnx file is run by onnxruntime
where that is installed, other files against --against. Above --tolerance nothing is
written."""
_PICTURES = 16  # of each kind that are compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    from qface_jax.weights.parity import TOLERANCES

    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="file to import")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    add_input(parser)
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE.onnx",
        help="the same model as ONNX, to check the import with",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="PATH",
        help="folder of face images or .bin file to check with; default: drawn faces",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="largest difference, as a share of the embedding's norm; default, by what "
        "the source computes in: "
        + ", ".join(f"{kind} {share:g}" for kind, share in TOLERANCES.items()),
    )
    parser.add_argument(
        "--key",
        default="",
        metavar="NAME",
        help="which tensors of a file with several sets, by the name that they are "
        "under, as ema.state_dict or teacher; default: those under a usual name",
    )
    parser.add_argument(
        "--allow-alike",
        action="store_true",
        help="import a network that gives all pictures almost the same embedding",
    )


def run(args: argparse.Namespace) -> int:
    """Imports, checks, writes; says what was done and what to do next."""
    from qface_jax.errors import ConfigError
    from qface_jax.processes import hosts
    from qface_jax.weights import imported_run, importing

    if args.tolerance is not None and not args.tolerance > 0:
        raise ConfigError(f"--tolerance: got {args.tolerance:g}, must be above 0")
    imported_run.refuse_existing(args.out)
    user_input = importing.Input(args.preprocess, args.mean, args.std, args.color_order)
    hosts.say(f"reading {args.weights}")
    read = importing.read(
        args.weights, structure=args.structure, user_input=user_input, key=args.key
    )
    for note in read.notes:
        hosts.say(f"  {note}")
    checked = _check(args, read)
    imported_run.write(args.out, read.imported)
    _report(args, read, checked)
    return 0


def _check(args: argparse.Namespace, read: Any) -> str:
    """Compares with the source; returns the sentence that says how it went."""
    from qface_jax import models
    from qface_jax.data_pipelines.tools import sample_images
    from qface_jax.processes import hosts
    from qface_jax.weights import importing, onnx_contents, parity
    from qface_jax.weights.imported_run import config_of

    model = models.build(config_of(read.imported.model).model)
    ours = parity.our_embed(model, read.imported.params, read.imported.stats)
    pictures = {"random": parity.random_images(_PICTURES)}
    if args.images is None:
        pictures["drawn faces"] = sample_images.drawn_faces(_PICTURES)
    else:
        pictures["faces"] = sample_images.sample(args.images, _PICTURES)
    cosine = parity.smallest_cosine(ours, pictures)
    if not args.allow_alike:
        parity.refuse_alike(cosine)
    if cosine >= parity.SUSPICIOUS:
        hosts.say(
            f"  warning: embeddings of different pictures have cosines of "
            f"{cosine:.2f} and above; is the input {read.reference}?"
        )
    is_onnx = importing.is_onnx(args.weights)
    source = args.against or (args.weights if is_onnx else None)
    if source is None:
        return "not checked: no reference at hand (--against=FILE.onnx gives one)"
    theirs = parity.onnx_embed(source, read.reference)
    if theirs is None:
        return (
            "not checked: onnxruntime is not installed (pip install onnxruntime, then "
            "import again)"
        )
    hosts.say(f"comparing with {source} in onnxruntime")
    results = parity.compare(ours, theirs, pictures)
    for result in results:
        hosts.say(f"  {result}")
    precision = read.precision
    if args.against:
        precision = onnx_contents.precision_of(args.against)
    parity.refuse_difference(results, args.tolerance or parity.TOLERANCES[precision])
    return (
        f"agrees with {source}: largest difference "
        f"{max(result.difference for result in results):.1e} of the embedding's norm"
    )


def _report(args: argparse.Namespace, read: Any, checked: str) -> None:
    from qface_jax.weights.imported_run import parameter_count

    model, head = read.imported.model, read.imported.head
    count = parameter_count(read.imported.params)
    centres = f"{len(head['centres']):,} class centres" if head else "no class centres"
    print(
        f"{args.out}: {model['backbone']}, {count:,} parameters, features of "
        f"{model['embedding_dim']}, {centres}\n"
        f"  input: {read.reference} of pixels 0..255, as the source takes it; images "
        "are given to it as to any run\n"
        f"  {checked}\n"
        f"judge it:  qface eval --checkpoint={args.out}\n"
        "train it:  qface train --config=NAME --config.model.backbone=init_from "
        f"--init-from={args.out}"
    )


COMMAND = Command(
    summary="make a run of a model from PyTorch, safetensors or ONNX",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
