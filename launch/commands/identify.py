"""`qface identify`: who is on a picture."""

import argparse
import json
from pathlib import Path
from typing import Any

from qface_jax.errors import ConfigError
from qface_jax.launch.commands.command import Command, positive
from qface_jax.launch.commands.model import (
    add_batch_size,
    add_calibration,
    add_model,
    load_model,
)

DESCRIPTION = """Look face images up in a gallery of people, by a model: who is most
similar to each, exactly, each person being the mean of its images. With --fpir or
--threshold a probe whose best candidate is not similar enough is unknown. Images are
aligned faces; `qface data align` makes some of photographs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "gallery",
        type=Path,
        metavar="GALLERY",
        help="folder with a folder of images for each person (an image beside them is "
        "a person, too), or the .npz or .parquet that qface embed made of one",
    )
    parser.add_argument(
        "probes",
        type=Path,
        metavar="PROBES",
        help="an image, a folder of images, a .txt list of images, or a file of qface "
        "embed",
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="candidates; default: 5"
    )
    enough = parser.add_mutually_exclusive_group()
    enough.add_argument(
        "--fpir",
        type=float,
        metavar="RATE",
        help="false positive identification rate: share of strangers that may get a "
        "name. The threshold follows from the images of the gallery, each looked up "
        "among the other people; or from --calibration and the number of people",
    )
    enough.add_argument(
        "--threshold",
        type=float,
        metavar="COSINE",
        help="similarity from which the best candidate is the person",
    )
    add_calibration(parser)
    parser.add_argument(
        "--side",
        type=int,
        metavar="PX",
        help="resolution of the probes, one of the calibration's; default: 112",
    )
    add_batch_size(parser, default=64)
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="write a line for each candidate, too"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Looks the probes up, and prints who each may be."""
    from qface_jax.api import calibrating, identification
    from qface_jax.processes import hosts

    _check(args)
    model, calibration = load_model(args), None
    if args.calibration is not None:
        calibration = calibrating.calibration_of(model, args.calibration)
    people, probes = identification.embeddings_of(
        model,
        [args.gallery, args.probes],
        calibration=calibration,
        batch_size=args.batch_size,
    )
    gallery = identification.gallery_of(people)
    threshold = args.threshold
    if calibration is not None:
        threshold = calibration.search_threshold(
            args.fpir, len(gallery.people), side=args.side or 112
        )
    elif args.fpir is not None:
        threshold = identification.stranger_threshold(gallery, people, args.fpir)
    hosts.say(_gallery_line(args, gallery, people))
    if threshold is None:
        hosts.say(
            "nobody is unknown without --fpir=RATE, the share of strangers that may "
            "get a name, or --threshold=COSINE"
        )
    else:
        hosts.say(f"threshold: similarity {threshold:.4f}")
    answers = identification.identify(
        gallery, probes, top=args.top, threshold=threshold
    )
    if args.out is not None:
        identification.write_csv(args.out, answers)
    if args.json:
        print(json.dumps(_facts(args, gallery, threshold, answers), indent=1))
    else:
        print("\n".join(map(_line, answers)))
        if args.out is not None:
            print(f"candidates: {args.out}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises before any long work where the words do not go together."""
    if args.fpir is not None and not 0 < args.fpir < 1:
        raise ConfigError(f"--fpir: got {args.fpir}, must be within (0, 1)")
    if args.threshold is not None and not -1 <= args.threshold <= 1:
        raise ConfigError(
            f"--threshold: got {args.threshold}, must be a cosine within -1 .. 1"
        )
    for word, needed in (("calibration", "fpir"), ("side", "calibration")):
        if getattr(args, word) is not None and getattr(args, needed) is None:
            raise ConfigError(f"--{word}: does nothing without --{needed}; give both")
    if args.out is not None and args.out.is_dir():
        raise ConfigError(f"--out: {args.out} is a folder; give the file to write")


def _gallery_line(args: argparse.Namespace, gallery: Any, images: Any) -> str:
    lost = ""
    if gallery.lost:
        named = ", ".join(gallery.lost[:5]) + (", ..." if len(gallery.lost) > 5 else "")
        lost = f"; {len(gallery.lost):,} people have no usable image: {named}"
    return (
        f"{args.gallery}: {len(gallery.people):,} people, {gallery.images.sum():,} of "
        f"{len(images):,} images usable{lost}"
    )


def _line(answer: Any) -> str:
    listed = ", ".join(f"{c.person} {c.similarity:.4f}" for c in answer.candidates)
    if not answer.candidates:
        text = f"{answer.status}, {answer.message}"
    elif answer.person is None:
        text = listed
    else:
        text = f"{answer.person or 'unknown'} ({listed})"
    # Names of files need not be text; a terminal takes nothing else.
    return f"{answer.probe}: {text}".encode("utf-8", "backslashreplace").decode()


def _facts(
    args: argparse.Namespace, gallery: Any, threshold: float | None, answers: list[Any]
) -> dict[str, Any]:
    return {
        "model": str(args.model),
        "people": len(gallery.people),
        "threshold": threshold,
        "fpir": args.fpir,
        "probes": [
            {
                **one._asdict(),
                "person": one.person or None,
                "unknown": None if one.person is None else one.person == "",
                "candidates": [c._asdict() for c in one.candidates],
            }
            for one in answers
        ],
    }


COMMAND = Command(
    summary="who is on a picture, of a gallery of people",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
