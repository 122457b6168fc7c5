"""Pictures of what the network sees, kept with the run for its report."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.data_pipelines.sets.pair_sets import PairSet
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.tools.sheet import contact_sheet
from qface_jax.losses.margins.margin import build_margin
from qface_jax.report.drawings import gst_picture
from qface_jax.runs.run_folder import SAMPLES

MOST = 32  # pictures on the sheet of a batch
COLUMNS = 8


def write_batch(run: Path, rows: dict[str, np.ndarray]) -> None:
    """Writes the first images of a training batch to `RUN/samples/train_batch.png`.

    The two views of an image stand beside each other, the degraded one, q, before the
    other, k.

    Args:
        run: Folder of the run.
        rows: This host's rows: images uint8 [b, h, w, 3], or [b, 2, h, w, 3] where
            there are two views of each, and labels int32 [b].
    """
    path = run / SAMPLES / "train_batch.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    images, captions = rows["images"], [str(label) for label in rows["labels"]]
    if images.ndim == 5:
        captions = [f"{label} {view}" for label in captions for view in ("q", "k")]
        images = images.reshape(-1, *images.shape[2:])
    contact_sheet(list(images[:MOST]), captions[:MOST], path, columns=COLUMNS)


def write_resolutions(
    run: Path,
    pair_set: PairSet,
    sides: Sequence[int],
    *,
    antialias: bool,
    resize: str,
) -> None:
    """Writes the first images of a set at each side to `RUN/samples/evaluation.png`.

    Args:
        run: Folder of the run.
        pair_set: Of its images the first are shown.
        sides: In px.
        antialias: In the down-sampling.
        resize: How images that are not 112 px become so.
    """
    images, captions = [], []
    count = min(COLUMNS, len(pair_set))
    for side in sides:
        batches = faces.eval_batches(
            pair_set,
            side=side,
            batch_size=count,
            antialias=antialias,
            resize=resize,
        )
        with contextlib.closing(batches):
            images += list(next(batches))
        captions += [f"{side} px"] * count
    path = run / SAMPLES / "evaluation.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(images, captions, path, columns=count)


def write_gst(run: Path, name: str, options: dict[str, Any], scale: float) -> None:
    """Writes the gradient scaling term of the run's margin to `RUN/samples/gst.png`.

    Args:
        run: Folder of the run.
        name: Name of the margin.
        options: Values of its options.
        scale: s.
    """
    panels = [gst_picture.panel(name, build_margin(name, options), scale=scale)]
    gst_picture.draw(panels, run / SAMPLES / "gst.png", scale=scale)
