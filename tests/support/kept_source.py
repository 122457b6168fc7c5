"""A small training set in memory, and the training batches of a source."""

import numpy as np

from qface_jax.configs import base
from qface_jax.data_pipelines.stream import faces

STEPS, BATCH = 7, 8


class Kept:
    """A source held in memory, some records of which can be replaced."""

    def __init__(self, source, replaced=None):
        self.name = "kept"
        self.num_classes = source.num_classes
        self.images, self.all_labels = source.fetch(np.arange(len(source)))
        self.images = list(self.images)
        for index, image in (replaced or {}).items():
            self.images[index] = image

    def __len__(self):
        return len(self.images)

    def labels(self):
        return self.all_labels

    def fetch(self, indices):
        return [self.images[index] for index in indices], self.all_labels[indices]

    def describe(self):
        return {}


def batches(source, recipe="adaface", **changes):
    arguments = {
        "batch_size": BATCH,
        "recipe": recipe,
        "seed": 4,
        "start_step": 0,
        "total_steps": STEPS,
    }
    if "params" not in changes:
        arguments["params"] = base.get_config().degrade[recipe]
    return list(faces.stream(source, **(arguments | changes)))


def assert_same(got, expected):
    assert len(got) == len(expected)
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_array_equal(left["images"], right["images"])
        np.testing.assert_array_equal(left["labels"], right["labels"])
