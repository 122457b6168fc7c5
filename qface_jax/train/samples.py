"""Pictures of what the network sees, kept with the run for its report."""

from pathlib import Path

import numpy as np

from qface_jax.data_pipelines.inspection import contact_sheet
from qface_jax.run_folder import SAMPLES

MOST = 32  # pictures on a sheet


def write_batch(run: Path, rows: dict[str, np.ndarray]) -> None:
    """Writes the first images of a training batch to `RUN/samples/train_batch.png`.

    Args:
        run: Folder of the run.
        rows: This host's rows: images uint8 [b, h, w, 3], labels int32 [b].
    """
    path = run / SAMPLES / "train_batch.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    images, labels = list(rows["images"][:MOST]), list(rows["labels"][:MOST])
    contact_sheet(images, labels, path, columns=8)
