"""Embeds a list of images into a file; what was cut off goes on where it was."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.data_pipelines.sources.image_list import ImageList, decoded_batches
from qface_jax.data_pipelines.sources.image_status import OK, Status
from qface_jax.errors import ConfigError, DataError
from qface_jax.evals.embedded import Embedded
from qface_jax.inference import embeddings, feature_file
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.feature_store import FeatureStore, without_unusable
from qface_jax.processes.share import ALONE
from qface_jax.runs import run_folder

_BLOCK = 4096  # images read from the store at a time

Tell = Callable[[int], None]


class Written(NamedTuple):
    """What was written.

    Attributes:
        statuses: What became of each image, [n].
        scores: Quality scores of the images that are OK, by name, float64 [k] each.
        width: Of the features.
    """

    statuses: list[Status]
    scores: dict[str, np.ndarray]
    width: int


def embed_images(
    embedder: Embedder, images: ImageList, out: Path, *, kept: Tell, progress: Tell
) -> Written | None:
    """Writes the features of some images; until all is done OUT.embedding keeps them.

    Args:
        embedder: The model; its `flip` and `resize` hold.
        images: What is embedded.
        out: File to write, as of `feature_file.write`.
        kept: Told how many images an earlier call has embedded, before any other is.
        progress: Told how many images each batch had.

    Returns:
        What was written; None where the file was there already, of these images by
        this model.

    Raises:
        ConfigError: `out` is there and holds something else, cannot be written, or
            another process is writing it.
        DataError: None of the images can be used.
    """
    feature_file.check_name(out)
    folder = out.with_name(f"{out.name}.embedding")
    if out.exists():
        return _embed(embedder, images, out, folder, kept, progress)
    with run_folder.lock(folder, command="qface embed", option="--out"):
        return _embed(embedder, images, out, folder, kept, progress)


def _embed(
    embedder: Embedder,
    images: ImageList,
    out: Path,
    folder: Path,
    kept: Tell,
    progress: Tell,
) -> Written | None:
    """Does the work of `embed_images` in the folder of what is finished."""
    every = np.arange(len(images))
    stamps = images.stamps(every)
    of_noise = embedder.of_noise()[0]
    manifest = {
        "images": str(images.path.absolute()),
        "list": _digest(images),
        "side": 112,
        "flip": embedder.flip,
        "resize": embedder.resize,
        "colour_order": "RGB",
        "scores": sorted(embedder.scores),
    }
    of_file = {**manifest, "stamps": hashlib.sha256(stamps.tobytes()).hexdigest()}
    if out.exists():
        _refuse_other(out, of_file, of_noise)
        shutil.rmtree(folder, ignore_errors=True)  # another process has just finished
        return None
    store = FeatureStore(
        folder,
        {**manifest, "model": hashlib.sha256(of_noise.tobytes()).hexdigest()},
        count=len(images),
        width=len(of_noise),
        stamps=lambda rows: stamps[rows],
    )
    kept(len(images) - len(store.missing(every)))
    bad: dict[int, Status] = {}

    def embed(rows: np.ndarray, _: int) -> Embedded:
        of_rows: list[Status] = []
        batches = decoded_batches(
            images, batch_size=embedder.rows, resize=embedder.resize, rows=rows
        )
        embedded = embedder.embed(
            _noting(batches, of_rows), count=len(rows), progress=progress
        )
        unusable = [place for place, one in enumerate(of_rows) if one.status != OK]
        bad.update({int(rows[place]): of_rows[place] for place in unusable})
        return without_unusable(embedded, np.array(unusable, np.int64))

    store.fill(every, embed, ALONE)
    statuses = [bad.get(row, Status(images.name(row), OK)) for row in every.tolist()]
    scores = _judged(store, embedder, statuses)
    if not any(status.status == OK for status in statuses):
        shutil.rmtree(folder)
        raise DataError(
            f"{images.path}: none of {len(images):,} images can be used; the first is "
            f"{statuses[0].name}: {statuses[0].message}"
        )
    unusable = np.array([status.status != OK for status in statuses])

    def read(rows: np.ndarray) -> Embedded:
        embedded = store.read(rows, embedder.scores)
        return without_unusable(embedded, np.flatnonzero(unusable[rows]))

    of_file["of_noise"] = of_noise.tolist()
    feature_file.write(
        out, feature_file.Content(of_file, statuses, stamps, unusable, read)
    )
    shutil.rmtree(folder)
    return Written(statuses, scores, len(of_noise))


def _digest(images: ImageList) -> str:
    digest = hashlib.sha256()
    for row in range(len(images)):
        digest.update(images.name(row).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _refuse_other(out: Path, manifest: dict[str, Any], of_noise: np.ndarray) -> None:
    there = feature_file.manifest(out)
    different = [key for key, value in manifest.items() if there.get(key) != value]
    if not feature_file.same_model(there, of_noise):
        different.append("model")
    if different:
        raise ConfigError(
            f"{out}: is there already and holds other features (another "
            f"{', '.join(different)}); give another --out, or remove it"
        )


def _noting(
    batches: Iterator[tuple[np.ndarray, list[Status]]], every: list[Status]
) -> Iterator[np.ndarray]:
    """Yields the images, and adds what became of them to `every`."""
    for images, statuses in batches:
        every += statuses
        yield images


def _judged(
    store: FeatureStore, embedder: Embedder, statuses: list[Status]
) -> dict[str, np.ndarray]:
    """Marks images without finite features; returns the scores of those that are OK."""
    scores: dict[str, list[np.ndarray]] = {name: [] for name in embedder.scores}
    for start in range(0, len(statuses), _BLOCK):
        rows = slice(start, start + _BLOCK)
        embedded = store.read(range(len(statuses))[rows], embedder.scores)
        statuses[rows] = embeddings.checked(embedded, statuses[rows])
        good = [status.status == OK for status in statuses[rows]]
        for name, values in embedded.scores.items():
            scores[name].append(values[good])
    return {name: np.concatenate(values) for name, values in scores.items()}
