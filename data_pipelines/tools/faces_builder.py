"""The TensorFlow Datasets builder that writes a source into ArrayRecord shards.

A shard is finished when its file stands under its final name in the folder of parts;
TensorFlow Datasets, which deletes what it was writing when it is stopped, only sees
links to the parts. So a run that was stopped loses no more than one shard.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from qface_jax.data_pipelines.degradation.recipe import SIDE
from qface_jax.data_pipelines.sources.source import Source, record_name
from qface_jax.data_pipelines.stream import picture
from qface_jax.data_pipelines.stream.picture import PictureError
from qface_jax.errors import DataError
from qface_jax.runs.progress import Progress

# One record per group, so that a random read touches no other; images are compressed.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_FETCH_RECORDS = 256
_NAMED_RECORDS = 20  # that are skipped or odd; the others are only counted


class Part:
    """One shard of an import: the records start .. stop-1 of the source."""

    def __init__(self, folder: Path, index: int, count: int, start: int, stop: int):
        """Names the files of the part.

        Args:
            folder: of all parts.
            index: of this part, 0 .. count-1.
            count: of parts.
            start: first record.
            stop: one after the last record.
        """
        self.start, self.stop = start, stop
        # The name that TensorFlow Datasets gives the shard too.
        self.name = f"faces-train.array_record-{index:05d}-of-{count:05d}"
        self.file = folder / self.name
        self._labels_file = folder / f"labels-{index:05d}.npy"
        self._report_file = folder / f"report-{index:05d}.json"

    @property
    def finished(self) -> bool:
        """True where the part's file is complete."""
        return self.file.exists()

    def labels(self) -> np.ndarray:
        """Returns int32 [records written] of a finished part."""
        return np.load(self._labels_file, allow_pickle=False)

    def report(self) -> dict:
        """Returns the counts of a finished part, see `PartExamples`."""
        return json.loads(self._report_file.read_text())

    def save(self, labels: list[int], report: dict) -> None:
        """Writes labels and report; they count once the part's file is there."""
        np.save(self._labels_file, np.asarray(labels, np.int32), allow_pickle=False)
        self._report_file.write_text(json.dumps(report))


class PartExamples:
    """The examples of one part, checked while they are read."""

    def __init__(
        self, source: Source, part: Part, skip_broken: bool, progress: Progress
    ):
        """Remembers what to read.

        Args:
            source: the images.
            part: which of them.
            skip_broken: leave out records that hold no image, instead of stopping.
            progress: told of every record that is read.
        """
        self._source, self._part = source, part
        self._skip_broken = skip_broken
        self._progress = progress

    def __call__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields (record, example).

        Raises:
            DataError: at a record that is no image, naming its key.
        """
        if self._part.finished:
            yield from self._placeholders()
            return
        labels: list[int] = []
        report = {"skipped": 0, "odd": 0, "examples": [], "bytes": 0, "formats": {}}
        for start in range(self._part.start, self._part.stop, _FETCH_RECORDS):
            rows = range(start, min(start + _FETCH_RECORDS, self._part.stop))
            for row, image, label in self._fetch(rows, report):
                labels.append(label)
                report["bytes"] += len(image)
                example = {"image": image, "label": label}
                yield row, example
                # The next example is asked for after this one is written. TensorFlow
                # Datasets keeps the dicts of a shard to count them: empty them.
                example.clear()
            self._progress.update(len(rows))
        self._part.save(labels, report)

    def _placeholders(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields as many empty examples as the finished part holds, to be counted."""
        report = self._part.report()
        if report["skipped"] and not self._skip_broken:
            raise DataError(_broken_message(report["examples"][0]))
        for row in range(len(self._part.labels())):
            yield row, {}

    def _fetch(self, rows: range, report: dict) -> Iterator[tuple[int, bytes, int]]:
        try:
            images, labels = self._source.fetch(np.asarray(rows))
            batches = [(rows, images, labels)]
        except DataError:
            # One unreadable record spoils the batch: find it.
            batches = [((row,), *self._fetch_one(row, report)) for row in rows]
        for batch_rows, images, labels in batches:
            for row, image, label in zip(batch_rows, images, labels, strict=False):
                encoded = self._checked(row, image, report)
                if encoded is not None:
                    yield row, encoded, int(label)

    def _fetch_one(self, row: int, report: dict) -> tuple[list[bytes], np.ndarray]:
        try:
            return self._source.fetch(np.asarray([row]))
        except DataError as error:
            self._broken(str(error), report)
            return [], np.zeros(0, np.int32)

    def _checked(self, row: int, image: bytes, report: dict) -> bytes | None:
        """Returns the picture as it is written; None leaves it out."""
        name = record_name(self._source, row)
        try:
            found = picture.read(image)
            picture.pixels(found)
        except PictureError as error:
            self._broken(f"{name}: {error}", report)
            return None
        formats = report["formats"]
        formats[found.format] = formats.get(found.format, 0) + 1
        if (found.width, found.height) != (SIDE, SIDE):
            report["odd"] += 1
            size = f"size {found.width}x{found.height}, expected {SIDE}x{SIDE}"
            _name_record(report, f"{name}: {size}")
        return found.encoded

    def _broken(self, problem: str, report: dict) -> None:
        if not self._skip_broken:
            raise DataError(_broken_message(problem))
        report["skipped"] += 1
        report["examples"].insert(0, problem)
        del report["examples"][_NAMED_RECORDS:]


def _name_record(report: dict, problem: str) -> None:
    if len(report["examples"]) < _NAMED_RECORDS:
        report["examples"].append(problem)


def _broken_message(problem: str) -> str:
    return f"{problem}; mend the record, or leave such records out with --skip-broken"


class PartWriter(tfds.core.ExampleWriter):
    """Writes each shard aside, renames it, and links to it from where it is wanted."""

    def __init__(self, parts: list[Part]):
        """Takes the parts, one per shard."""
        super().__init__(file_format=tfds.core.FileFormat.ARRAY_RECORD)
        self._parts = {part.name: part for part in parts}

    def write(self, path: Any, examples: Iterator[tuple[int, bytes]]) -> None:
        """Writes serialized examples unless the part is finished; makes `path` a link.

        Raises:
            DataError: where the file cannot be written; no part of it looks finished.
        """
        part = self._parts[path.name]
        if not part.finished:
            aside = part.file.with_name(part.file.name + ".tmp")
            # Whoever was stopped while writing it has left it here.
            aside.unlink(missing_ok=True)
            try:
                _write_records(aside, (_in_order(record) for _, record in examples))
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
            os.replace(aside, part.file)
        os.symlink(os.path.abspath(part.file), path)


def _in_order(record: bytes) -> bytes:
    """Returns the serialized example with its features sorted by name.

    Their order differs from process to process otherwise, and a resumed import would
    not be byte for byte that of a single run.
    """
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


def _write_records(path: Path, records: Iterator[bytes]) -> None:
    count = 0
    try:
        writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        for count, record in enumerate(records, start=1):  # noqa: B007
            writer.write(record)
        writer.close()
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        written = ArrayRecordReader(str(path)).num_records()
    except RuntimeError as error:
        # The writer's own error class; its message holds the system's.
        raise DataError(f"{path}: cannot be written: {error}") from error
    if written != count:
        raise DataError(
            f"{path}: {written} of {count} records were written; is the disk full?"
        )


class FacesBuilder(tfds.core.dataset_builder.ShardBasedBuilder, skip_registration=True):
    """Encoded images and labels, in the order of the source."""

    name = "faces"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        data_dir: Path,
        num_classes: int,
        parts: list[Part],
        examples: Callable[[Part], PartExamples],
    ):
        """Remembers what to write.

        Args:
            data_dir: folder in which TensorFlow Datasets puts `faces/1.0.0`.
            num_classes: identities; labels are below it.
            parts: one per shard, in order.
            examples: gives the examples of a part.
        """
        self._num_classes = num_classes
        self._parts = parts
        self._examples = examples
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Face images as encoded by their source, with identity labels.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(num_classes=self._num_classes),
                }
            ),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list]:
        del dl_manager  # nothing is downloaded
        return {"train": [self._examples(part) for part in self._parts]}

    def _example_writer(self) -> PartWriter:
        return PartWriter(self._parts)
