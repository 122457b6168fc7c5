"""`qface data align`: aligned crops of a folder of photographs."""

import argparse
import os
from pathlib import Path

from qface_jax.errors import DataError, counted

DESCRIPTION = """Write a crop of 112 px for each photograph with a face, placed by its
landmarks as insightface places them, and beside the crops landmarks.csv,
without_face.csv (which photographs have none, and why), sheet.png to look at, and
align.json. The landmarks come from YuNet through OpenCV (--detector; needs
opencv-python-headless) or from a table that another detector wrote (--landmarks).
OUT is written at once when all is done; until then OUT.aligning keeps what is finished,
and the same command goes on from there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "photos", type=Path, metavar="PHOTOS", help="folder of photographs, any depth"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    landmarks = parser.add_mutually_exclusive_group(required=True)
    landmarks.add_argument(
        "--detector", type=Path, metavar="ONNX", help="file of the detector YuNet"
    )
    landmarks.add_argument(
        "--landmarks",
        type=Path,
        metavar="CSV",
        help="table of landmarks: file (path within PHOTOS),x1,y1 .. x5,y5 in px: the "
        "eye on the picture's left, the other eye, nose, the mouth's left and right "
        "corner; or 4 points with the middle of the mouth",
    )
    parser.add_argument(
        "--face",
        default="prominent",
        choices=("prominent", "largest", "centre"),
        help="which of several faces: the largest, the one nearest to the centre of "
        "the photograph, or prominent: the largest, with its distance from the centre "
        "counting against it; default: prominent",
    )
    parser.add_argument(
        "--threshold",
        type=_share,
        default=0.6,
        metavar="SCORE",
        help="lowest score of a face that --detector finds, 0 to 1; default: 0.6",
    )


def run(args: argparse.Namespace) -> int:
    """Aligns, and says what came out."""
    from qface_jax.data_pipelines.tools import align_photos
    from qface_jax.data_pipelines.tools.detection import LandmarkTable, YuNet

    if args.detector is not None:
        detector = YuNet(args.detector, threshold=args.threshold)
    else:
        detector = LandmarkTable(args.landmarks)
        _compare(detector, args.photos)
    report = align_photos.align_photos(args.photos, args.out, detector, face=args.face)
    print(
        f"{args.out}: {report['aligned']:,} of {report['photographs']:,} photographs "
        f"aligned; {report['without_face']:,} without a face, "
        f"{report['unreadable']:,} unreadable, {report['unfit_landmarks']:,} with "
        f"landmarks that fix no crop; {report['several_faces']:,} with several faces"
    )
    odd = report["eyes_not_above_mouth"]
    if odd:
        print(
            f"  {odd:,} faces do not have their eyes above the mouth; where most are "
            "so, x and y are exchanged or the points are in another order"
        )
    print(f"look at {args.out / align_photos.SHEET_FILE}")
    return 0


def _compare(table: object, photos: Path) -> None:
    """Names what a table lists and the folder lacks."""
    strange = [name for name in table.faces if not os.path.isfile(photos / name)]
    if not strange:
        return
    if len(strange) == len(table.faces):
        raise DataError(
            f"{table.path}: got none of its {counted(len(strange), 'file')} in "
            f"{photos} (such as {strange[0]}), expected paths within that folder"
        )
    print(
        f"{table.path}: not in {photos}: {len(strange):,} of its "
        f"{counted(len(table.faces), 'file')}, such as {strange[0]}"
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, must be from 0 to 1")
    return value
