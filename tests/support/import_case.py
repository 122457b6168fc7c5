"""A small source to import, and how to compare what came out."""

import numpy as np

from qface_jax.data_pipelines.sources.source import open_source
from qface_jax.errors import DataError
from support.recordio_writer import jpeg

N = 40
LABELS = [i // 4 for i in range(N)]
# Small enough for several shards.
SHARD_BYTES = 12_000


class ListSource:
    """Images from a list; `fetch` can be told to misbehave."""

    name = "list"

    def __init__(self, images, labels=LABELS):
        self.images = list(images)
        self._labels = np.asarray(labels, np.int32)
        self.num_classes = int(self._labels.max()) + 1
        self.unreadable: set[int] = set()
        self.fail_at = None
        self.fetched: list[int] = []

    def __len__(self):
        return len(self.images)

    def labels(self):
        return self._labels

    def fetch(self, indices):
        for index in np.asarray(indices).tolist():
            self.fetched.append(index)
            if index in self.unreadable:
                raise DataError(f"list: record {index}: cannot be read")
            if index == self.fail_at:
                raise KeyboardInterrupt
        return [self.images[i] for i in indices], self._labels[indices]

    def describe(self):
        return {"source": self.name, "images": len(self), "notes": ["not in the plan"]}


def make_images():
    return [jpeg(i) for i in range(N)]


def open_imported(path):
    return open_source("array_record", [path])


def files_of(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def check_equal(imported, source):
    rows = np.random.default_rng(0).permutation(len(source))
    images, labels = imported.fetch(rows)
    expected, expected_labels = source.fetch(rows)
    assert images == expected
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_array_equal(imported.labels(), source.labels())
    assert (len(imported), imported.num_classes) == (len(source), source.num_classes)
