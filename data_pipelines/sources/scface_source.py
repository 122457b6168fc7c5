"""SCface's training split as a source: subjects 001 to 050, aligned.

Protocol B tests on subjects 051 to 130, so that what is trained on the others may be
judged by it.
"""

from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.sets import scface
from qface_jax.data_pipelines.sources.source import SourceEntry
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError, counted


class ScfaceSource:
    """Mugshots and frames by day of the subjects that may be trained on.

    Images that are not on disk or have no usable landmarks are left out.
    """

    name = "scface"

    def __init__(self, path: Path):
        """Opens the set; see `scface.open_scface` for what is refused.

        Raises:
            DataError: besides, no image of these subjects is there.
        """
        # TensorFlow, which warps, takes seconds to load.
        from qface_jax.data_pipelines.stream.alignment import similarity

        opened = scface.open_scface(path)
        rows = opened.rows
        self._images, self._matrices = opened.images, similarity(rows.landmarks)
        usable = np.isfinite(self._matrices).all(axis=(1, 2))
        usable[opened.missing] = False
        wanted = np.isin(rows.subjects, scface.TRAINING)
        self._rows = np.flatnonzero(wanted & usable)
        if not len(self._rows):
            raise DataError(
                f"{path}: got no usable image of subjects {scface.TRAINING[0]:03d} to "
                f"{scface.TRAINING[-1]:03d}, expected 50 mugshots and 750 frames"
            )
        subjects, labels = np.unique(rows.subjects[self._rows], return_inverse=True)
        self.num_classes, self._labels = len(subjects), labels.astype(np.int32)
        self.notes = list(opened.notes)
        left_out = int(np.sum(wanted & ~usable))
        if left_out:
            self.notes.append(
                f"{counted(left_out, 'image')} of subjects that may be trained on left "
                "out: missing, or without usable landmarks"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1, in the order of the subjects."""
        return self._labels

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns crops of 112 px as PNG, and int32 labels; thread-safe."""
        from qface_jax.data_pipelines.stream.crops import encoded_crop

        indices = np.asarray(indices)
        rows = self._rows[indices]
        crops = []
        for index, row in zip(indices, rows, strict=True):
            try:
                encoded = (self._images.folder / self._images.files[row]).read_bytes()
                crops.append(encoded_crop(encoded, self._matrices[row]))
            except (OSError, PictureError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise DataError(
                    f"{self.record_name(index)}: cannot be read: {reason}"
                ) from error
        return crops, self._labels[indices]

    def record_name(self, index: int) -> str:
        """Returns the path of record `index`."""
        row = self._rows[index]
        return str(self._images.folder / self._images.files[row])

    def describe(self) -> dict:
        """Returns the counts and what is odd about the folder."""
        return {
            "source": self.name,
            "path": str(self._images.folder),
            "images": len(self),
            "identities": self.num_classes,
            "subjects": f"{scface.TRAINING[0]} to {scface.TRAINING[-1]}",
            "notes": list(self.notes),
        }


SOURCE = SourceEntry(ScfaceSource, detects=scface.is_scface)
