"""`qface embed`: the features of images as a file."""

import argparse
import collections
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

from qface_jax.launch.commands.command import Command
from qface_jax.launch.commands.model import (
    add_batch_size,
    add_model,
    add_resize,
    load_model,
)

DESCRIPTION = """Embed images by a model and write features, quality scores and a status
of each image as one file. Images are aligned faces; `qface data align` makes some of
photographs. FILE is written at once when all is done; until then FILE.embedding keeps
what is finished, and the same command goes on from there.

FILE has an entry per image in each of its fields: name, status (ok, unreadable,
not_an_image, non_finite), message, plain and mirrored (raw features of the image and of
its mirror image; the feature is their sum), score_norm and other quality scores.
qface_jax.read_embeddings(FILE) reads it."""
_SHOWN = 10  # images that cannot be used, which are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "images",
        type=Path,
        metavar="IMAGES",
        help="folder of images at any depth, an image, a .txt list of images, a .bin "
        "file of pairs, a .rec file or an imported set",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write, .npz or .parquet (which needs pyarrow)",
    )
    parser.add_argument(
        "--no-flip",
        dest="flip",
        action="store_false",
        help="leave out the mirror image: half the time",
    )
    add_batch_size(parser)
    add_resize(parser, of="MODEL")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Embeds, and says what came out."""
    from qface_jax.data_pipelines.sources.image_list import open_images
    from qface_jax.inference import embed_images, feature_file
    from qface_jax.report import face_scores
    from qface_jax.runs.progress import Progress

    feature_file.check_name(args.out)
    images = open_images(args.images)
    model = load_model(args)
    embedder = model.sized(min(args.batch_size, len(images)), flip=args.flip)
    if args.resize is not None:
        embedder = dataclasses.replace(embedder, resize=args.resize)
    with Progress(len(images), "images", "embedding") as bar:
        written = embed_images.embed_images(
            embedder, images, args.out, kept=bar.skip, progress=bar.update
        )
        speed = bar.rate()
    facts = {"out": str(args.out), "model": str(args.model), "images": len(images)}
    lines = []
    if written is not None:
        tally = _tally(written)
        facts |= _facts(tally, written.width, speed)
        lines += face_scores.summary(tally)
    there = " (it was there already, of these images by this model)"
    lines.append(f"features: {args.out}{'' if written else there}")
    print(json.dumps(facts, indent=1) if args.json else "\n".join(lines))
    return 0


def _tally(written: Any) -> Any:
    """The counts and scores of what was written."""
    from qface_jax.report.face_scores import OK, FaceScore, Tally

    tally = Tally(_SHOWN)
    place = itertools.count()

    def scores(status: str) -> dict[str, float]:
        if status != OK:
            return {}
        row = next(place)
        return {name: float(values[row]) for name, values in written.scores.items()}

    rows = (
        FaceScore(one.name, one.status, scores(one.status), message=one.message)
        for one in written.statuses
    )
    collections.deque(tally.counting(rows), maxlen=0)
    return tally


def _facts(tally: Any, width: int, speed: float) -> dict[str, Any]:
    import numpy as np

    from qface_jax.report.face_scores import QUANTILES

    return {
        "width": width,
        "statuses": dict(tally.statuses),
        "not_ok": tally.examples,
        "scores": {
            name: {
                title: float(np.quantile(values, share))
                for title, share in QUANTILES.items()
            }
            for name, values in tally.scores.items()
        },
        "images_per_second": round(speed, 1),
    }


COMMAND = Command(
    summary="features and quality of images, as a file",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
