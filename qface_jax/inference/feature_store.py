"""Features of a benchmark's images on disk: embedded once, read by every protocol.

A store is a folder for one model, one set of images and one way of showing them:
`manifest.json` and files `*.npy`, each a structured array with a record per image. A
file is written aside and renamed, so whatever a killed evaluation had finished is
there, and the next one embeds what is missing. Hosts write files of their own rows.

Behind its array each file has a SHA-256 of the manifest and the array, which `np.load`
passes over: a file that was damaged, or that is another store's, counts as not there.
Each record has the stamp of its picture: features of a picture that was replaced count
as not there either, those of the others stay.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import DataError
from qface_jax.evals.embedded import Embedded
from qface_jax.inference.embedder import fused, scored
from qface_jax.inference.quality_score import Score
from qface_jax.processes.share import Share
from qface_jax.storage.atomic_file import replace_file

FOLDER = "features"  # of a run
FORMAT = 2  # raised when the meaning of a field changes
ROWS = 2048  # images of a file at most

# Numbers of images [k], and how often the model is called at least -> their features.
EmbedRows = Callable[[np.ndarray, int], Embedded]
# Numbers of images [k] -> what changes when a picture is replaced, int64 [k, 2].
Stamps = Callable[[np.ndarray], np.ndarray]

_DIGEST = hashlib.sha256().digest_size


class FeatureStore:
    """Features of one set of images by one model.

    Each file has the fields `row` (int64, number of the image in the set), `stamp`
    (int64 [2], of the picture), `unusable` (it could not be read or aligned), `plain`
    and, with flip, `mirrored` (raw features of the image and of its mirror image,
    float32 [d]), and `score_<name>` (float64).

    Attributes:
        damaged: files that cannot be used: damaged, or of another store. The first
            host removes them when the store is filled.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        *,
        count: int,
        width: int,
        stamps: Stamps,
    ):
        """Opens the store, which may be new.

        Args:
            folder: in which stores lie; this one is made below it at the first write.
            manifest: everything that the features depend on besides the pictures, fit
                for JSON; "flip" says whether there are features of mirror images.
            count: images of the set.
            width: of the features.
            stamps: of the pictures; asked once for each image.
        """
        self._width = width
        self._flip = bool(manifest["flip"])
        text = json.dumps({"format": FORMAT, **manifest}, indent=1, sort_keys=True)
        self._text = text + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path = folder / digest
        self.damaged: list[Path] = []
        self._files: list[np.ndarray] = []
        self._file = np.full(count, -1, np.int32)
        self._place = np.zeros(count, np.int32)
        self._stamps, self._stamp = stamps, np.zeros((count, 2), np.int64)
        self._stamped = np.zeros(count, bool)
        self._replaced = 0
        # Of a picture that was replaced, the features written last count.
        for path in sorted(self.path.glob("*.npy"), key=_age):
            if not self._take(path, again=True):
                self.damaged.append(path)

    @property
    def count(self) -> int:
        """Images whose features are there."""
        return int((self._file >= 0).sum())

    def missing(self, rows: Sequence[int]) -> np.ndarray:
        """Returns those of the numbers whose features are not there, int64 [k]."""
        rows = np.unique(np.asarray(rows, np.int64))
        self._compare(rows[self._file[rows] >= 0])
        return rows[self._file[rows] < 0]

    def fill(self, rows: Sequence[int], embed: EmbedRows, share: Share) -> int:
        """Embeds and writes what is missing; all hosts call it together.

        Args:
            rows: numbers of this host's images.
            embed: is called equally often by every host.
            share: this host's part.

        Returns:
            How many pictures of all hosts were found replaced since the last call.
        """
        missing = self.missing(rows)
        parts = [missing[i : i + ROWS] for i in range(0, len(missing), ROWS)]
        if share.index == 0:
            for path in self.damaged:
                path.unlink(missing_ok=True)
        counts = share.gather(np.array([[len(parts), self._replaced]]))
        most, replaced = int(counts[:, 0].max()), int(counts[:, 1].sum())
        self._replaced = 0
        if most and share.index == 0:  # hosts in containers can have one process number
            self._describe()
        for i in range(most):
            part = parts[i] if i < len(parts) else missing[:0]
            largest = int(share.gather(np.array([len(part)])).max())
            self._see(part)  # before they are read: a change is noticed next time
            embedded = embed(part, largest)
            if len(part):
                self._write(part, embedded)
        return replaced

    def read(self, rows: Sequence[int], scores: Mapping[str, Score]) -> Embedded:
        """Returns the features of some images, in their order.

        Args:
            rows: numbers of images that are there.
            scores: by name, of the model.

        Raises:
            ValueError: one of them is missing.
        """
        rows = np.asarray(rows, np.int64)
        if len(missing := self.missing(rows)):
            raise ValueError(f"{self.path}: has no features of images {missing}")
        plain = np.empty((len(rows), self._width), np.float32)
        mirrored = np.empty_like(plain) if self._flip else None
        unusable = np.empty(len(rows), bool)
        for number in np.unique(self._file[rows]):
            places = np.flatnonzero(self._file[rows] == number)
            records = self._files[number][self._place[rows[places]]]
            plain[places], unusable[places] = records["plain"], records["unusable"]
            if mirrored is not None:
                mirrored[places] = records["mirrored"]
        return without_unusable(
            fused(plain, mirrored, scored(plain, scores)), np.flatnonzero(unusable)
        )

    def _write(self, rows: np.ndarray, embedded: Embedded) -> None:
        scores = [(f"score_{name}", "<f8") for name in embedded.scores]
        records = np.zeros(len(rows), [*self._fields(), *scores])
        records["row"], records["stamp"] = rows, self._stamp[rows]
        records["plain"] = embedded.plain
        records["unusable"][embedded.unusable] = True
        if self._flip:
            records["mirrored"] = embedded.mirrored
        for name, values in embedded.scores.items():
            records[f"score_{name}"] = values
        path, file = self.path / _name(rows), io.BytesIO()
        np.save(file, records)
        replace_file(path, file.getvalue() + self._digest(file.getvalue()))
        self._take(path)

    def _digest(self, array: bytes) -> bytes:
        """Returns what stands behind the array in a file of this store."""
        digest = hashlib.sha256(self._text.encode())
        digest.update(array)
        return digest.digest()

    def _describe(self) -> None:
        manifest = self.path / "manifest.json"
        if not manifest.exists():
            replace_file(manifest, self._text.encode())

    def _see(self, rows: np.ndarray) -> None:
        """Takes the stamps of those pictures whose stamps are not known yet."""
        rows = rows[~self._stamped[rows]]
        if len(rows):
            self._stamp[rows], self._stamped[rows] = self._stamps(rows), True

    def _compare(self, rows: np.ndarray) -> None:
        """Forgets the features of those pictures that have another stamp now.

        Args:
            rows: numbers of images that are there, ascending int64 [k].
        """
        rows = rows[~self._stamped[rows]]
        self._see(rows)
        for number in np.unique(self._file[rows]):
            of_file = rows[self._file[rows] == number]
            kept = self._files[number]["stamp"][self._place[of_file]]
            other = of_file[(kept != self._stamp[of_file]).any(axis=1)]
            self._file[other] = -1
            self._replaced += len(other)

    def _fields(self) -> list[tuple]:
        features = ("<f4", (self._width,))
        fields = [("row", "<i8"), ("stamp", "<i8", (2,)), ("unusable", "?")]
        names = ["plain", "mirrored"] if self._flip else ["plain"]
        return [*fields, *((name, *features) for name in names)]

    def _take(self, path: Path, *, again: bool = False) -> bool:
        """Adds a file; returns whether it is whole and of this store.

        Args:
            path: of the file.
            again: unusable images count as not there: they may have been mended.
        """
        try:
            content = path.read_bytes()
            if content[-_DIGEST:] != self._digest(content[:-_DIGEST]):
                return False
            records = np.load(path, mmap_mode="r", allow_pickle=False)
            rows = np.asarray(records["row"])
            if path.name != _name(rows):
                return False
        except (OSError, ValueError, IndexError, EOFError):
            return False
        if rows[0] < 0 or rows[-1] >= len(self._file):
            raise DataError(
                f"{path}: holds image {rows[-1]}, the set has {len(self._file)}: "
                f"remove {self.path} and evaluate again"
            )
        places = np.flatnonzero(~(again & np.asarray(records["unusable"])))
        self._file[rows[places]] = len(self._files)
        self._place[rows[places]] = places
        self._files.append(records)
        return True


def _age(path: Path) -> tuple[int, str]:
    """Returns when a file was written, ns; and its name."""
    try:
        return path.stat().st_mtime_ns, path.name
    except OSError:
        return 0, path.name


def _name(rows: np.ndarray) -> str:
    """Returns the name of the file that holds some images, ascending int64 [k]."""
    if not len(rows):
        return ""
    digest = hashlib.sha256(rows.tobytes()).hexdigest()[:8]
    return f"{rows[0]:09d}-{rows[-1]:09d}-{digest}.npy"


def without_unusable(embedded: Embedded, unusable: np.ndarray) -> Embedded:
    """Returns the features with those of unusable images set to zero.

    Args:
        embedded: of some images; its arrays are changed.
        unusable: places, ascending int64 [k].
    """
    if not len(unusable):
        return embedded
    for values in (embedded.features, embedded.plain, embedded.mirrored):
        if values is not None:
            values[unusable] = 0
    for values in embedded.scores.values():
        values[unusable] = -math.inf
    return Embedded(
        embedded.features,
        embedded.scores,
        unusable,
        embedded.plain,
        embedded.mirrored,
    )
