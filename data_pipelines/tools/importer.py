"""Import of any source into ArrayRecord, once, by a TensorFlow Datasets builder.

While it runs, everything lies in `OUT.importing`; `OUT` appears by one rename when all
is written, so a folder of that name is always complete. What is kept of a run that was
stopped, by whatever means: every finished shard. A rerun of the same import checks the
plan, takes the finished shards as they are and starts the unfinished one again; the
result is byte for byte that of an uninterrupted run. The content of the source must
not change in between: only its path, size and counts are compared.
"""

import contextlib
import io
import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from qface_jax.data_pipelines.sources.array_record_source import LABELS_FILE
from qface_jax.data_pipelines.sources.source import Source
from qface_jax.data_pipelines.tools.faces_builder import (
    FacesBuilder,
    Part,
    PartExamples,
)
from qface_jax.data_pipelines.tools.resumable import Resumable
from qface_jax.errors import DataError
from qface_jax.runs.progress import Progress
from qface_jax.storage.atomic_file import replace_file

REPORT_FILE = "import.json"
SHARD_BYTES = 128 << 20
# Every shard is an open file of the reader, and systems often allow 1,024.
MAX_SHARDS = 512
_SAMPLE_RECORDS = 64
_RECORD_OVERHEAD = 120  # bytes of a record beside the image
_SPARE_BYTES = 16 << 20


def import_source(
    source: Source, out: Path, *, skip_broken: bool = False, shard_bytes: int = 0
) -> dict:
    """Writes a source to `out` as a TensorFlow Datasets folder of ArrayRecord shards.

    Images are stored as they are encoded. Progress goes to stderr.

    Args:
        source: what to import.
        out: the folder to make.
        skip_broken: leave out and count records that hold no image; by default the
            first one stops the import.
        shard_bytes: about the size of a file; 0 chooses.

    Returns:
        The report, also kept in `out/import.json`: "images", "identities", "skipped",
        "odd" (images that are not 112x112), "formats", "examples" of records skipped
        or odd, "bytes", "plan".

    Raises:
        DataError: where `out` holds something else, the disk is too small or full, or
            a record is no image.
    """
    size = _estimated_bytes(source)
    shards = _shard_count(size, len(source), shard_bytes)
    described = {k: v for k, v in source.describe().items() if k != "notes"}
    plan = {"source": described, "records": len(source), "shards": shards}
    out = out.absolute()
    folder = Resumable(
        out,
        ".importing",
        REPORT_FILE,
        plan,
        writer="import",
        other="another import",
        unfinished="the unfinished import of another source, or of this one before it "
        "changed",
    )
    work = folder.work
    with folder.kept():
        if (report := folder.finished()) is not None:
            return report
        (work / "parts").mkdir(parents=True, exist_ok=True)
        with folder.locked("lock"):
            _agree_on_plan(folder)
            parts = _parts(work / "parts", shards, len(source))
            _check_space(work, size)
            dataset = _build(source, work, parts, skip_broken)
            report = _report(source, parts) | {"plan": plan}
            _complete(dataset, parts, report)
            os.rename(dataset, out)
        shutil.rmtree(work)
    return report


def _shard_count(size: int, records: int, shard_bytes: int) -> int:
    wanted = -(-size // (shard_bytes or SHARD_BYTES))
    return max(1, min(wanted, MAX_SHARDS, records))


def _estimated_bytes(source: Source) -> int:
    """Returns the bytes to be written, from the mean size of some records."""
    count = min(_SAMPLE_RECORDS, len(source))
    rows = np.linspace(0, len(source) - 1, count).astype(np.int64)
    sizes = []
    for row in rows:
        # A record that cannot be read is reported when its turn comes.
        with contextlib.suppress(DataError):
            sizes.append(len(source.fetch(row[None])[0][0]))
    mean = sum(sizes) / max(len(sizes), 1)
    return int(len(source) * (mean + _RECORD_OVERHEAD))


def _agree_on_plan(folder: Resumable) -> None:
    file = folder.work / "plan.json"
    if not file.exists():
        replace_file(file, json.dumps(folder.plan).encode())
    folder.agree(json.loads(file.read_text()))
    # What TensorFlow Datasets was putting together when it was stopped; the shards
    # themselves are in `parts`.
    for stray in folder.work.glob("faces/incomplete.*"):
        shutil.rmtree(stray)


def _parts(folder: Path, count: int, records: int) -> list[Part]:
    bounds = [records * index // count for index in range(count + 1)]
    return [
        Part(folder, index, count, bounds[index], bounds[index + 1])
        for index in range(count)
    ]


def _check_space(work: Path, size: int) -> None:
    done = sum(
        file.stat().st_size
        for file in work.rglob("*.array_record-*")
        if not file.is_symlink()
    )
    needed = max(size - done, 0) + _SPARE_BYTES
    free = shutil.disk_usage(work).free
    if free < needed:
        raise DataError(
            f"{work}: no space: the import needs about {needed / 1e9:.2f} GB more, "
            f"{free / 1e9:.2f} GB are free"
        )


def _build(source: Source, work: Path, parts: list[Part], skip_broken: bool) -> Path:
    finished = sum(part.stop - part.start for part in parts if part.finished)
    with Progress(len(source), "images", "import", start=finished) as progress:
        builder = FacesBuilder(
            data_dir=work,
            num_classes=source.num_classes,
            parts=parts,
            examples=partial(
                PartExamples, source, skip_broken=skip_broken, progress=progress
            ),
        )
        # It prints of a download that does not take place.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_dir=work / "downloads",
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False,
                    compute_stats=tfds.download.ComputeStatsMode.SKIP,
                ),
            )
    return Path(builder.data_dir)


def _report(source: Source, parts: list[Part]) -> dict:
    report = {"skipped": 0, "odd": 0, "bytes": 0}
    formats: dict[str, int] = {}
    examples: list[str] = []
    images = 0
    for part in parts:
        of_part = part.report()
        for key in report:
            report[key] += of_part[key]
        for kind, count in of_part["formats"].items():
            formats[kind] = formats.get(kind, 0) + count
            images += count
        examples += of_part["examples"]
    return {
        "images": images,
        "identities": source.num_classes,
        **report,
        "formats": formats,
        "examples": examples[:_SAMPLE_RECORDS],
    }


def _complete(dataset: Path, parts: list[Part], report: dict) -> None:
    """Puts the shards in place of the links to them, and adds labels and report.

    All of it can be done again where it was stopped; `dataset` is not public yet.
    """
    np.save(dataset / LABELS_FILE, np.concatenate([part.labels() for part in parts]))
    (dataset / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n")
    for part in parts:
        if part.finished:
            os.replace(part.file, dataset / part.name)
