"""Images/s of the training stream beside a loop that only decodes the same records.

    python benchmarks/input_pipeline.py [--rec FOLDER] [--images 4096] [--rounds 5]
        [--ways "decode only" degrade.on=device qgface ...]

All ways run in turn, round after round in one process, so that a busy machine slows
all of them. The records are fetched once and kept, so that no way waits for a disk or
for a face being drawn. Two numbers are given: by the clock, and by processor time,
which other programs on the machine disturb less. A pair, two views of one record,
counts as two images. `degrade.on=device` is what a host does where the training step
degrades, whatever the recipe; `device_degradation.py` has the other half.
"""

import argparse
import math
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from qface_jax.configs import base
from qface_jax.data_pipelines.sources import training as sources
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces

BATCH_SIZE = 64
HELD = 1024  # records kept in memory


class Held:
    """Records of another source, fetched once."""

    def __init__(self, source: sources.Source, count: int):
        self.name = source.name
        self.num_classes = source.num_classes
        self._images, self._labels = source.fetch(np.arange(min(count, len(source))))

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        return [self._images[index] for index in indices], self._labels[indices]


def decode_only(source: Held, steps: int, workers: int) -> tf.data.Dataset:
    """The least that any pipeline does: fetch in order, decode, batch."""

    def fetch(step: np.int64) -> np.ndarray:
        first = int(step) * BATCH_SIZE
        indices = np.arange(first, first + BATCH_SIZE) % len(source)
        return np.array(source.fetch(indices)[0], object)

    def load(step: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(fetch, [step], tf.string), [None])

    dataset = tf.data.Dataset.range(steps).map(load, num_parallel_calls=2).unbatch()
    dataset = dataset.map(
        lambda image: tf.io.decode_jpeg(image, channels=3),
        num_parallel_calls=workers or tf.data.AUTOTUNE,
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    return dataset.batch(BATCH_SIZE).prefetch(2).with_options(options)


def naive(source: Held, steps: int, workers: int, params: ConfigDict):
    """The resolution recipe as tf.image would have it written."""

    def degrade(image: tf.Tensor) -> tf.Tensor:
        image = tf.cast(tf.image.random_flip_left_right(image), tf.float32)
        row = tf.random.uniform([], 0, len(params.sides), tf.int32)
        side = tf.constant(tuple(params.sides))[row]
        small = tf.image.resize(image, [side, side], "bicubic", antialias=True)
        large = tf.image.resize(small, [112, 112], "bicubic", antialias=True)
        seen = tf.where(tf.random.uniform([]) < params.probability, large, image)
        return tf.cast(tf.clip_by_value(seen, 0, 255), tf.uint8)

    dataset = decode_only(source, steps, workers).unbatch()
    dataset = dataset.map(degrade, num_parallel_calls=workers or tf.data.AUTOTUNE)
    return dataset.batch(BATCH_SIZE).prefetch(2)


def ways(source: Held, steps: int, workers: int) -> dict:
    """What is timed: name -> a function that makes an iterable of `steps` batches."""
    degrade = base.get_config().degrade
    ways = {
        "decode only": lambda: decode_only(source, steps, workers),
        "naive resolution": lambda: naive(source, steps, workers, degrade.resolution),
    }
    undone = ConfigDict({"flip_probability": 0.0})
    always = degrade.resolution.copy_and_resolve_references()
    always.probability = 1.0
    for name, recipe, params, beside in (
        ("degrade.on=device", "clean", undone, None),
        ("clean", "clean", degrade.clean, None),
        ("adaface", "adaface", degrade.adaface, None),
        ("resolution", "resolution", degrade.resolution, None),
        ("resolution, every image", "resolution", always, None),
        ("qgface", "qgface", degrade.qgface, None),
        ("qgface and clean, pairs", "qgface", degrade.qgface, degrade.clean),
        ("octuplet, pairs", "octuplet", degrade.octuplet, None),
        ("recognizability", "recognizability", degrade.recognizability, None),
    ):
        ways[name] = lambda recipe=recipe, params=params, beside=beside: faces.stream(
            source,
            batch_size=BATCH_SIZE,
            recipe=recipe,
            params=params,
            beside=beside,
            seed=0,
            start_step=0,
            total_steps=steps,
            workers=workers,
        )
    return ways


def pictures(batch: np.ndarray | dict[str, np.ndarray]) -> int:
    """How many there are in a batch [b, h, w, 3], or of pairs [b, 2, h, w, 3]."""
    images = batch["images"] if isinstance(batch, dict) else batch
    return math.prod(images.shape[:-3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rec", help="folder or .rec file; default: synthetic faces")
    parser.add_argument("--images", type=int, default=4096, help="per way and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ways", nargs="+", help="names of the table; default: all")
    args = parser.parse_args()
    config = base.get_config()
    if args.rec:
        config.data.source, config.data.path = "mxnet", args.rec
        source = sources.training_source(config)
    else:
        source = SyntheticFaces(identities=HELD // 8, images_per_identity=8, seed=0)
    held = Held(source, HELD)
    steps = max(1, args.images // BATCH_SIZE)
    timed = ways(held, steps, args.workers)
    if args.ways:
        timed = {name: timed[name] for name in args.ways}
    clock: dict[str, list[float]] = {name: [] for name in timed}
    processor: dict[str, list[float]] = {name: [] for name in timed}
    for round_number in range(args.rounds + 1):
        for name, make in timed.items():
            batches = iter(make())
            next(batches)  # building and tracing are not what is measured
            began, worked = time.perf_counter(), time.process_time()
            images = sum(pictures(batch) for batch in batches)
            if round_number:  # the first round only warms up
                clock[name].append(images / (time.perf_counter() - began))
                processor[name].append(images / (time.process_time() - worked))
    first = next(iter(timed))
    print(f"{len(held)} records of {source.name}, medians of {args.rounds} rounds")
    print(f"{'':26}{'images/s':>10}{'ratio':>8}{'per core-s':>12}{'ratio':>8}")
    for name in timed:
        rate = statistics.median(clock[name])
        work = statistics.median(processor[name])
        rate_ratio = rate / statistics.median(clock[first])
        work_ratio = work / statistics.median(processor[first])
        print(f"{name:26}{rate:10.0f}{rate_ratio:8.2f}{work:12.0f}{work_ratio:8.2f}")


if __name__ == "__main__":
    main()
