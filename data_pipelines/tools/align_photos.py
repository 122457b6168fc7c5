"""Aligned crops of a folder of photographs, their landmarks, and a sheet to look at.

While it runs, everything lies in `OUT.aligning`; `OUT` appears by one rename when all
is done. What is kept of a run that was stopped: every photograph that has its line in
the journal. The same command goes on from there.
"""

import csv
import io
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from qface_jax.data_pipelines.sources import image_list
from qface_jax.data_pipelines.sources.image_list import evenly_spread
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.alignment import ALIGNER, fault, similarity
from qface_jax.data_pipelines.stream.crops import as_png, crop
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.data_pipelines.tools.detection import Detector, chosen
from qface_jax.data_pipelines.tools.resumable import Resumable
from qface_jax.data_pipelines.tools.sheet import Band, write_sheet
from qface_jax.errors import ConfigError, DataError
from qface_jax.runs.progress import Progress
from qface_jax.storage.atomic_file import replace_file

LANDMARKS_FILE = "landmarks.csv"
WITHOUT_FILE = "without_face.csv"
SHEET_FILE = "sheet.png"
REPORT_FILE = "align.json"
ALIGNED, NO_FACE, UNREADABLE, UNFIT = "aligned", "no face", "unreadable", "unfit"
_JOURNAL = "journal.jsonl"
_POINTS = 5
_SHOWN, _BESIDE, _SIDE = 32, 8, 112  # crops on the sheet, in a row, px of a photograph


class Row(NamedTuple):
    """What became of one photograph.

    Attributes:
        file: its path within the folder, with slashes.
        status: ALIGNED, NO_FACE, UNREADABLE, or UNFIT: its landmarks fix no crop.
        reason: what is wrong; of an aligned one, what is odd.
        landmarks: px of the photograph, flat; empty unless ALIGNED.
        score: of the detector; None where it gives none.
        faces: how many were found.
    """

    file: str
    status: str
    reason: str = ""
    landmarks: Sequence[float] = ()
    score: float | None = None
    faces: int = 0


def align_photos(photos: Path, out: Path, detector: Detector, *, face: str) -> dict:
    """Writes OUT: a crop of 112 px for each photograph with a face, and what was seen.

    The crops lie in the folders of the photographs, as PNG of the same name. Beside
    them: landmarks.csv, without_face.csv with a reason each, sheet.png, align.json.

    Args:
        photos: folder of photographs at any depth; hidden files are left out.
        out: folder to make.
        detector: finds faces.
        face: which of several faces, one of `detection.CHOICES`.

    Returns:
        What align.json says: counts, detector, aligner.

    Raises:
        ConfigError: `out` lies within `photos`.
        DataError: there is no photograph or none with a face, `out` holds something
            else, or the disk is full.
    """
    photos, out = photos.absolute(), out.absolute()
    if out.resolve().is_relative_to(photos.resolve()):
        raise ConfigError(f"OUT: got {out}, must not lie within the photographs")
    files = _photographs(photos)
    plan = {"photos": str(photos), "count": len(files), "face": face}
    plan |= {"detector": detector.facts, "aligner": ALIGNER, "side": _SIDE}
    folder = Resumable(
        out,
        ".aligning",
        REPORT_FILE,
        plan,
        writer="qface data align",
        other="crops of other photographs, or made otherwise",
        unfinished="the unfinished crops of other photographs, or of another detector "
        "or choice",
    )
    work = folder.work
    with folder.kept():
        if (report := folder.finished()) is not None:
            return report
        work.mkdir(parents=True, exist_ok=True)
        with folder.locked(_JOURNAL) as journal:
            rows = _rows_before(journal, folder)
            _align_all(photos, files, work, detector, face, journal, rows)
            ordered = [rows[file] for file in files]
            report = _report(ordered) | {"plan": plan}
            _refuse_nothing(photos, ordered, work)
            _write_tables(work, ordered)
            _write_sheet(work, photos, ordered, crop_names(files), report)
            replace_file(work / REPORT_FILE, json.dumps(report, indent=1).encode())
            os.unlink(work / _JOURNAL)
        os.rename(work, out)
    return report


def crop_names(files: list[str]) -> dict[str, str]:
    """Returns the name of each photograph's crop within OUT.

    It is the photograph's with the ending .png; where two photographs differ in their
    endings alone, .png comes after the ending.

    >>> crop_names(["a/1.jpg", "a/2.jpg", "a/2.png"])["a/1.jpg"]
    'a/1.png'
    """
    stems = Counter(os.path.splitext(file)[0].lower() for file in files)
    return {
        file: f"{file}.png" if stems[stem.lower()] > 1 else f"{stem}.png"
        for file, stem in ((file, os.path.splitext(file)[0]) for file in files)
    }


def _photographs(folder: Path) -> list[str]:
    """Returns the pictures of a folder at any depth, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one of photographs")
    names = map(os.fsdecode, image_list.picture_files(folder))
    files = sorted(name for name in names if os.path.isfile(folder / name))
    if not files:
        raise DataError(
            f"{folder}: no photograph: expected files with one of the endings "
            f"{', '.join(picture.IMAGE_SUFFIXES)}, at any depth"
        )
    return files


def _rows_before(journal: TextIO, folder: Resumable) -> dict[str, Row]:
    """Returns what a journal says so far; a new one gets the plan."""
    journal.seek(0)
    lines = journal.read().split("\n")
    # What follows the last end of a line was cut off when the run was stopped.
    whole = [line for line in lines[:-1] if line]
    journal.truncate(sum(len(line.encode()) + 1 for line in whole))
    journal.seek(0, os.SEEK_END)
    if whole:
        folder.agree(json.loads(whole[0]))
    else:
        journal.write(json.dumps(folder.plan) + "\n")
    rows = [Row(**json.loads(line)) for line in whole[1:]]
    return {row.file: row for row in rows}


def _align_all(
    photos: Path,
    files: list[str],
    work: Path,
    detector: Detector,
    face: str,
    journal: TextIO,
    rows: dict[str, Row],
) -> None:
    """Aligns the photographs that have no row yet, and adds theirs."""
    names = crop_names(files)
    left = [file for file in files if file not in rows]
    start = len(files) - len(left)
    with Progress(len(files), "photographs", "aligning", start=start) as progress:
        for file in left:
            row, image = _aligned(photos / file, file, detector, face)
            if image is not None:
                replace_file(work / names[file], as_png(image))
            rows[file] = row
            journal.write(json.dumps(row._asdict()) + "\n")
            journal.flush()
            progress.update(1)


def _aligned(
    path: Path, file: str, detector: Detector, face: str
) -> tuple[Row, np.ndarray | None]:
    """Returns what becomes of a photograph, and its crop."""
    try:
        image = picture.pixels(picture.read(picture.read_file(path)))
    except (OSError, PictureError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Row(file, UNREADABLE, reason), None
    faces = detector.detect(file, image)
    if not faces:
        return Row(file, NO_FACE, "no face"), None
    size = (image.shape[1], image.shape[0])
    best = chosen(faces, size, face)
    matrix, odd = similarity(best.landmarks), fault(best.landmarks)
    inside = (best.landmarks >= 0) & (best.landmarks < size)
    if np.isfinite(matrix).all() and not inside.all(axis=1).any():
        matrix = np.full((2, 3), np.nan)
        odd = (
            f"landmarks: got all outside the photograph of {size[0]} x {size[1]} px, "
            "expected them in its px"
        )
    if np.isnan(matrix).any():
        return Row(file, UNFIT, str(odd), faces=len(faces)), None
    score = None if math.isnan(best.score) else best.score
    points = [round(float(value), 4) for value in best.landmarks.ravel()]
    row = Row(file, ALIGNED, odd or "", points, score, len(faces))
    return row, crop(image, matrix)


def _report(rows: list[Row]) -> dict:
    counts = Counter(row.status for row in rows)
    return {
        "photographs": len(rows),
        "aligned": counts[ALIGNED],
        "without_face": counts[NO_FACE],
        "unreadable": counts[UNREADABLE],
        "unfit_landmarks": counts[UNFIT],
        "several_faces": sum(row.faces > 1 for row in rows),
        # Heads do hang sideways; many of them are x and y exchanged.
        "eyes_not_above_mouth": sum(
            row.status == ALIGNED and bool(row.reason) for row in rows
        ),
    }


def _refuse_nothing(photos: Path, rows: list[Row], work: Path) -> None:
    if any(row.status == ALIGNED for row in rows):
        return
    shutil.rmtree(work)
    raise DataError(
        f"{photos}: got no face in {len(rows):,} photographs, expected one at least "
        f"({rows[0].file}: {rows[0].reason}); a lower --threshold finds more, and the "
        "files of a table are paths within the folder"
    )


def _write_tables(work: Path, rows: list[Row]) -> None:
    """Writes the landmarks, in the form that `--landmarks` reads, and who has none."""
    aligned = [row for row in rows if row.status == ALIGNED]
    points = max(len(row.landmarks) for row in aligned) // 2
    names = [f"{axis}{i}" for i in range(1, points + 1) for axis in "xy"]
    body = [
        [row.file, *row.landmarks, "" if row.score is None else round(row.score, 4),
         row.faces]
        for row in aligned
    ]  # fmt: skip
    _write_csv(work / LANDMARKS_FILE, ["file", *names, "score", "faces"], body)
    others = [
        [row.file, row.status, row.reason] for row in rows if row.status != ALIGNED
    ]
    _write_csv(work / WITHOUT_FILE, ["file", "status", "reason"], others)


def _write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    replace_file(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _write_sheet(
    work: Path, photos: Path, rows: list[Row], names: dict[str, str], report: dict
) -> None:
    """Draws some crops, those that the detector is least sure of, those without."""
    aligned = [row for row in rows if row.status == ALIGNED]
    some = [aligned[i] for i in evenly_spread(len(aligned), _SHOWN)]
    bands = [
        _crops(work, some[at : at + _BESIDE], names, "" if at else "aligned")
        for at in range(0, len(some), _BESIDE)
    ]
    unsure = sorted((row for row in aligned if row.score is not None),
                    key=lambda row: row.score)[:_BESIDE]  # fmt: skip
    bands.append(_crops(work, unsure, names, "lowest scores of the detector"))
    without = [row for row in rows if row.status in (NO_FACE, UNFIT)][:_BESIDE]
    small = [_reduced(photos / row.file) for row in without]
    bands.append(Band("without a face", small, heads=[_short(r.file) for r in without]))
    facts = [
        f"{report['aligned']:,} of {report['photographs']:,} photographs aligned, "
        f"{report['without_face']:,} without a face, {report['unreadable']:,} "
        "unreadable"
    ]
    write_sheet(work / SHEET_FILE, bands, facts)


def _crops(work: Path, rows: list[Row], names: dict[str, str], title: str) -> Band:
    pictures = [
        picture.pixels(picture.read((work / names[row.file]).read_bytes()))
        for row in rows
    ]
    captions = [() if row.score is None else (f"{row.score:.3f}",) for row in rows]
    heads = [_short(row.file) for row in rows]
    return Band(title, pictures, captions=captions, heads=heads)


def _short(file: str) -> str:
    return Path(file).stem[-18:]


def _reduced(path: Path) -> np.ndarray:
    """Returns a photograph within 112 px."""
    image = picture.pixels(picture.read(picture.read_file(path)))
    step = max(1, math.ceil(max(image.shape[:2]) / _SIDE))
    return image[::step, ::step]
