"""Faces in photographs: what a detector is, YuNet through OpenCV, a table of landmarks.

OpenCV is imported here alone, and only where a detector is asked for.
"""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from qface_jax.errors import ConfigError, DataError

# Which of several faces is taken: see `chosen`.
CHOICES = ("prominent", "largest", "centre")
# px of the longer side: larger photographs are reduced before YuNet sees them, twice,
# since it places the landmarks of faces of about 100 px best and misses some of more
# than 300 px.
_SIDES = (320, 1024)
_CLEAR = 48  # px wide: a face of the first look that needs no second one
_OVERLAP = 0.3  # of two boxes, from which on the lesser one is dropped
_MOST = 5000  # boxes before that
_WIDER = 2.0  # a face is about so much wider than its landmarks
_COORDINATES = (8, 10)  # of 4 points and of 5


class Face(NamedTuple):
    """One face in a photograph.

    Attributes:
        landmarks: px of the photograph, in the order of `alignment`, float32 [5 or 4,
            2].
        box: left, top, width, height, px.
        score: how sure the detector is; NaN where it does not say.
    """

    landmarks: np.ndarray
    box: tuple[float, float, float, float]
    score: float


class Detector(Protocol):
    """What finds faces.

    Attributes:
        facts: what the landmarks depend on, fit for JSON; "name" among them.
    """

    facts: dict

    def detect(self, name: str, image: np.ndarray) -> list[Face]:
        """Returns the faces of a photograph.

        Args:
            name: its path within the folder of photographs, with slashes.
            image: uint8 [h, w, 3], RGB.
        """


class YuNet:
    """OpenCV's face detector YuNet, from a file that the user names."""

    def __init__(self, path: Path, *, threshold: float):
        """Loads the model.

        Args:
            path: an ONNX file of YuNet.
            threshold: lowest score of a face, 0 to 1.

        Raises:
            ConfigError: OpenCV is not installed, or there is no such file.
            DataError: OpenCV cannot use the file.
        """
        try:
            import cv2
        except ImportError as error:
            raise ConfigError(
                "--detector: needs OpenCV, which is not installed: pip install "
                "opencv-python-headless (or qface-jax[align]); or give the landmarks "
                "of another detector with --landmarks=TABLE"
            ) from error
        if not path.is_file():
            raise ConfigError(f"--detector: got {path}, expected an ONNX file of YuNet")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self._cv2 = cv2
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), threshold, _OVERLAP, _MOST
            )
            self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"--detector: got {path}, which OpenCV cannot use as YuNet: {reason}"
            ) from error
        self.facts = {
            "name": "YuNet",
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "threshold": threshold,
            "longest_sides": list(_SIDES),
            "opencv": cv2.__version__,
        }

    def detect(self, name: str, image: np.ndarray) -> list[Face]:
        """Returns the faces of a photograph, the surest first."""
        faces: list[Face] = []
        longest = max(image.shape[:2])
        for side in _SIDES:
            factor = min(1.0, side / longest)
            last = factor == 1 or side == _SIDES[-1]
            faces += [
                face
                for face in self._look(image, factor)
                if (last or factor * face.box[2] >= _CLEAR)
                and all(_overlap(face.box, other.box) < _OVERLAP for other in faces)
            ]
            if last:
                break
        return sorted(faces, key=lambda face: -face.score)

    def _look(self, image: np.ndarray, factor: float) -> list[Face]:
        """Returns the faces of a photograph that is reduced by a factor."""
        height, width = image.shape[:2]
        seen = np.ascontiguousarray(image[..., ::-1])  # OpenCV has blue first
        if factor < 1:
            size = (max(1, round(factor * width)), max(1, round(factor * height)))
            seen = self._cv2.resize(seen, size, interpolation=self._cv2.INTER_AREA)
        scale = np.array([width / seen.shape[1], height / seen.shape[0]])
        self._network.setInputSize((seen.shape[1], seen.shape[0]))
        _, rows = self._network.detect(seen)
        return [_face(row, scale) for row in (() if rows is None else rows)]


class LandmarkTable:
    """Landmarks that another detector wrote: file, x1, y1, x2, y2 ... a line.

    Of 5 points, or 4 with the middle of the mouth, in the order of `alignment`. Further
    columns need a header that names the coordinates. A file with several lines has
    several faces; one whose coordinates are empty has none.
    """

    def __init__(self, path: Path):
        """Reads the table.

        Raises:
            DataError: it cannot be read, or a line has another form.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = [(i, row) for i, row in enumerate(csv.reader(file), 1) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"{path}: cannot be read: {reason}") from error
        columns, score = None, None
        if lines and "x1" in lines[0][1]:
            columns, score = _named_columns(path, lines[0][1])
            lines = lines[1:]
        if not lines:
            raise DataError(f"{path}: holds no line, expected file,x1,y1,x2,y2,...")
        self.path = path
        self.faces: dict[str, list[Face]] = {}
        for number, row in lines:
            points = row[1:] if columns is None else [row[c] for c in columns
                                                      if c < len(row)]  # fmt: skip
            faces = self.faces.setdefault(row[0], [])
            if all(not word.strip() for word in points):
                continue
            sure = row[score] if score is not None and score < len(row) else ""
            faces.append(_listed_face(path, number, points, sure))
        self.facts = {
            "name": "table of landmarks",
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }

    def detect(self, name: str, image: np.ndarray) -> list[Face]:
        """Returns the faces that the table has for a photograph."""
        return self.faces.get(name, [])


def chosen(faces: Sequence[Face], size: tuple[int, int], choice: str) -> Face:
    """Returns one of several faces.

    Args:
        faces: at least one.
        size: width and height of the photograph, px.
        choice: "largest", by the area of the box; "centre", nearest to the middle of
            the photograph; "prominent", the largest where two squares of the distance
            from the middle count against the area, as insightface chooses.

    Raises:
        ValueError: another choice.
    """
    if choice not in CHOICES:
        raise ValueError(f"choice: got {choice!r}, must be one of {', '.join(CHOICES)}")

    def merit(face: Face) -> float:
        left, top, width, height = face.box
        away = np.hypot(left + width / 2 - size[0] / 2, top + height / 2 - size[1] / 2)
        area = width * height
        return {
            "largest": area, "centre": -away, "prominent": area - 2 * away**2,
        }[choice]  # fmt: skip

    return max(faces, key=merit)


def _face(row: np.ndarray, scale: np.ndarray) -> Face:
    """Returns what a row of YuNet says, its first four numbers being the box."""
    corner, extent = row[:2] * scale, row[2:4] * scale
    # A pixel's middle is at its number, its corner half a pixel before.
    landmarks = (row[4:14].reshape(5, 2) + 0.5) * scale - 0.5
    box = tuple(float(value) for value in (*corner, *extent))
    return Face(landmarks.astype(np.float32), box, float(row[14]))


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the common area of two boxes as a share of both together."""
    width, height = (
        min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i])
        for i in (0, 1)
    )
    common = max(width, 0) * max(height, 0)
    return common / max(one[2] * one[3] + other[2] * other[3] - common, 1e-9)


def _named_columns(path: Path, header: list[str]) -> tuple[list[int], int | None]:
    """Returns the columns of x1, y1, x2 ... and that of the score."""
    names = [name.strip().lower() for name in header]
    wanted = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]
    present = [name for name in wanted if name in names]
    if len(present) not in _COORDINATES or present != wanted[: len(present)]:
        raise DataError(
            f"{path}: got the columns {', '.join(header)}, expected file, then x1,y1 "
            "to x5,y5 (or to x4,y4)"
        )
    score = names.index("score") if "score" in names else None
    return [names.index(name) for name in present], score


def _listed_face(path: Path, number: int, words: Sequence[str], score: str) -> Face:
    try:
        values = [float(word) for word in words]
        sure = float(score) if score.strip() else float("nan")
    except ValueError:
        values = []
    if len(values) not in _COORDINATES:
        raise DataError(
            f"{path}: line {number} has {', '.join(words)[:80]!r} after the file, "
            "expected x and y of 5 points (or 4)"
        )
    landmarks = np.asarray(values, np.float32).reshape(-1, 2)
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    corner, extent = (low + high - _WIDER * (high - low)) / 2, _WIDER * (high - low)
    box = tuple(float(value) for value in (*corner, *extent))
    return Face(landmarks, box, sure)
