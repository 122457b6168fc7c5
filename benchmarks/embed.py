"""Images per second of `Model.embed`, which `qface embed` runs, beside onnxruntime's.

    python benchmarks/embed.py [MODEL] [--preprocess=NAME] [--images=2000] [--rounds=3]

MODEL, an .onnx file or the folder of a run, is exported; without one it is
MobileFaceNet with fresh weights. All ways read the same JPEG files and make the feature
of each image and of its mirror image, batch by batch, on all cores. They take turns in
one process after a warm-up: ours with its own reader, onnxruntime in a plain loop, and
in one whose files are read by threads while it computes.
"""

import argparse
import concurrent.futures
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import onnxruntime
from PIL import Image

import qface_jax
from qface_jax import models
from qface_jax.api import model_weights
from qface_jax.api.model import Model
from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.export import exporting
from qface_jax.export.interface import EMBEDDING, Interface
from qface_jax.export.subject import Request, Subject, subject_of
from qface_jax.inference.embedder import Embedder
from qface_jax.sharded import parallel
from qface_jax.tables import EXPORT_FORMATS

BATCH = 128


def fresh():
    """MobileFaceNet with fresh weights, as a model in use and to be exported."""
    config = get_config()
    config.model.backbone = "mobilefacenet"
    params, stats = jax.jit(models.build(config.model).init)(jax.random.key(0))
    subject = Subject(config.lock(), *jax.device_get((params, stats)), None, {})
    parts = {"params/backbone": subject.params, "stats": subject.stats}
    embedder = Embedder.of_parts(
        parts, config, parallel.make_mesh(), names=("norm",), batch_size=BATCH
    )
    return Model(embedder, path="mobilefacenet"), subject


def of_user(path, preprocess):
    """A model of the user's, likewise."""
    weights = model_weights.read(path, preprocess=preprocess)
    model = qface_jax.load(path, preprocess=preprocess)
    return model, subject_of(weights, with_centres=False)


def decoded(paths):
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def plain_loop(session, paths):
    for start in range(0, len(paths), BATCH):
        session.run([EMBEDDING], {"images": decoded(paths[start : start + BATCH])})


def reading_ahead(session, paths):
    parts = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for images in pool.map(decoded, parts):
            session.run([EMBEDDING], {"images": images})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--preprocess")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.model is None:
        model, subject = fresh()
    else:
        model, subject = of_user(args.model, args.preprocess)
    with tempfile.TemporaryDirectory() as folder:
        faces = drawn_faces(256)
        paths = [Path(folder) / f"{number:05}.jpg" for number in range(args.images)]
        for number, path in enumerate(paths):
            Image.fromarray(faces[number % len(faces)]).save(path, quality=95)
        file = Path(folder) / "face.onnx"
        exporting.export(
            subject,
            file,
            EXPORT_FORMATS["onnx"],
            Request(Interface(flip=True)),
            pictures={"drawn faces": faces[:8]},
        )
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        ways = {
            "ours": lambda paths: model.embed(paths, batch_size=BATCH),
            "onnxruntime, plain loop": lambda paths: plain_loop(session, paths),
            "onnxruntime, reading ahead": lambda paths: reading_ahead(session, paths),
        }
        for run in ways.values():
            run(paths[:BATCH])
        seconds = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, run in ways.items():
                start = time.monotonic()
                run(paths)
                seconds[name].append(time.monotonic() - start)
    ours = np.array(seconds["ours"])
    for name, values in seconds.items():
        rates = args.images / np.array(values)
        ratio = np.median(np.array(values) / ours)
        print(
            f"{name:<27} {np.median(rates):6.1f} images/s "
            f"({rates.min():.1f} to {rates.max():.1f}), ours {ratio:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
