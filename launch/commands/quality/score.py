"""`qface quality score`: how good single face images are, by a run."""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qface_jax.errors import ConfigError, DataError
from qface_jax.launch.commands.command import add_which
from qface_jax.launch.commands.model import add_batch_size, add_resize

DESCRIPTION = """Score face images by a run, larger is better: the norm of the feature,
ERS (distance from where unrecognizable images lie) and RI (the learnt recognizability
index), each where the run has it. A file that is no image gets a line that says so."""
_BESIDE = 12  # pictures of a band of the sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="folder of a run (the --workdir of qface train, OUT of qface import)",
    )
    parser.add_argument(
        "images",
        type=Path,
        metavar="IMAGES",
        help="folder of face images at any depth, an image, a .bin file of pairs, a "
        ".rec file or an imported set",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("scores.csv"),
        metavar="CSV",
        help="file to write; default: scores.csv",
    )
    add_which(parser)
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="MODULE:OBJECT",
        help="score of your own to give besides; may be repeated",
    )
    parser.add_argument(
        "--unrecognizable",
        type=Path,
        metavar="PATH",
        help="images whose mean embedding ERS is measured from; for a run that has no "
        "such centre, as an imported model has none",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="PNG",
        help="draw the images with the lowest and the highest scores",
    )
    add_batch_size(parser)
    add_resize(parser, of="RUN")


def run(args: argparse.Namespace) -> int:
    """Scores, writes the table and the sheet, says what came out."""
    from qface_jax import tables
    from qface_jax.data_pipelines.sources.image_list import open_images
    from qface_jax.evals.measures.quality_scores import ERS
    from qface_jax.inference import score_images
    from qface_jax.inference.embedder import Embedder
    from qface_jax.report import face_scores
    from qface_jax.runs import run_folder
    from qface_jax.sharded import parallel

    _refuse_folders(args)
    for name in args.score:
        tables.trust(name)
    source = run_folder.read(args.run)
    images = open_images(args.images)
    others = None if args.unrecognizable is None else open_images(args.unrecognizable)
    embedder = Embedder.from_run(
        source,
        args.which,
        parallel.make_mesh(),
        batch_size=args.batch_size,
        quality_scores=args.score,
    )
    if args.resize is not None:
        embedder = dataclasses.replace(embedder, resize=args.resize)
    workers = source.config.data.workers
    print(f"{args.run}: checkpoint of step {embedder.step} ({args.which})")
    if others is None and ERS not in embedder.scores:
        print(
            "no ERS: this run knows no unrecognizable images; --unrecognizable=PATH "
            "gives some"
        )
    if others is not None:
        with _progress(others, "unrecognizable images") as bar:
            embedder = score_images.measured_from(
                embedder, others, workers=workers, progress=bar.update
            )
    tally = face_scores.Tally()
    with _progress(images, "scoring") as bar:
        rows = score_images.score_rows(
            embedder, images, workers=workers, progress=bar.update
        )
        face_scores.write_csv(args.out, tally.counting(rows), further=embedder.scores)
    print("\n".join(face_scores.summary(tally)))
    print(f"scores: {args.out}")
    if not tally.places:
        raise DataError(
            f"{args.images}: none of the {tally.total:,} images could be scored; "
            f"{args.out} says why of each"
        )
    if args.sheet is not None:
        from qface_jax.data_pipelines.tools.sheet import write_sheet

        write_sheet(args.sheet, list(_bands(images, tally, embedder.resize)))
        print(f"sheet: {args.sheet}")
    return 0


def _refuse_folders(args: argparse.Namespace) -> None:
    """Raises where a file to write is a folder, before any long work."""
    for word, path in (("--out", args.out), ("--sheet", args.sheet)):
        if path is not None and path.is_dir():
            raise ConfigError(f"{word}: {path} is a folder; give the file to write")


def _progress(images: Any, label: str) -> Any:
    from qface_jax.runs.progress import Progress

    return Progress(len(images), "images", label)


def _bands(images: Any, tally: Any, resize: str) -> Iterator[Any]:
    """The lowest and the highest by each learnt score; by the norm where none is."""
    import numpy as np

    from qface_jax.data_pipelines.sources.image_list import decoded_batches
    from qface_jax.data_pipelines.tools.sheet import Band
    from qface_jax.evals.measures.quality_scores import NORM, title
    from qface_jax.report import face_scores

    scores, places = tally.scores, np.array(tally.places)
    ranking = [name for name in scores if name != NORM] or [NORM]
    shown = {name: scores[name] for name in ranking}
    for name in ranking:
        ends = face_scores.extremes(scores[name], _BESIDE)
        for word, rows in zip(("lowest", "highest"), ends, strict=True):
            if not len(rows):
                continue
            # Read again: keeping every picture until the ranks are known would not do.
            batches = decoded_batches(
                images, batch_size=_BESIDE, resize=resize, rows=places[rows]
            )
            pictures, _ = next(batches)
            yield Band(
                f"{word} {title(name)}",
                pictures,
                face_scores.captions(shown, rows),
            )
