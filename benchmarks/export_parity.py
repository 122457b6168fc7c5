"""How far exported files are from their models: every backbone family, every format.

    python benchmarks/export_parity.py [--formats=onnx,tflite] [--backbones=...]
        [--model=FILE.onnx --preprocess=NAME]

Each backbone has fresh weights and the statistics of drawn faces. Its files are run by
their own runtimes on random images and drawn faces, one by one and by eight; the table
has the largest difference of the embedding, as a share of its norm, and the seconds for
all that. --model adds an imported model.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from qface_jax import models
from qface_jax.api import model_weights
from qface_jax.configs.base import get_config
from qface_jax.data_pipelines.tools.sample_images import drawn_faces
from qface_jax.errors import UserError
from qface_jax.export import exporting
from qface_jax.export.interface import Interface
from qface_jax.export.subject import Request, Subject, subject_of
from qface_jax.tables import EXPORT_FORMATS

# One of each family, the smallest.
BACKBONES = (
    "iresnet18", "ir_18", "ir_se_50", "mobilefacenet", "mobilefacenet_relu6",
    "resnet50", "mobilenet_v2",
    "face_transformer", "face_transformer_p12s8", "mini", "tiny",
)  # fmt: skip
FORMATS = ("onnx", "stablehlo", "tflite", "safetensors")
PASSES = 30  # over the faces, for the running statistics


def fresh(backbone):
    config = get_config()
    config.model.backbone = backbone
    model = models.build(config.model)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    faces = models.to_float(drawn_faces(32))

    @jax.jit
    def once(stats):
        key = jax.random.key(1)
        return model.apply(params, stats, faces, train=True, key=key)[1]

    for _ in range(PASSES):
        stats = once(stats)
    params, stats = jax.device_get((params, stats))
    return Subject(config.lock(), params, stats, None, {"backbone": backbone})


def row(name, subject, formats, pictures):
    cells = [name]
    for key in formats:
        chosen = EXPORT_FORMATS[key]
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                exported = exporting.export(
                    subject,
                    Path(folder) / f"face{chosen.ending}",
                    chosen,
                    Request(Interface()),
                    pictures=pictures,
                    tolerance=np.inf,
                )
            except UserError as error:
                print(f"{name}, {key}: {error}", flush=True)
                cells.append("refused")
                continue
        of_batch = {1: [], 8: []}
        for one in exported.differences["embedding"]:
            of_batch[one.batch].append(one.difference)
        by_one, by_eight = (max(of_batch[batch]) for batch in (1, 8))
        seconds = time.monotonic() - begun
        cells.append(f"{by_one:.1e}, {by_eight:.1e} ({seconds:.0f} s)")
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--preprocess")
    args = parser.parse_args()
    formats = args.formats.split(",")
    pictures = exporting.pictures_of(None, "crop")
    print("| | " + " | ".join(f"{name}, by 1, by 8" for name in formats) + " |")
    print("|---" * (len(formats) + 1) + "|", flush=True)
    for backbone in filter(None, args.backbones.split(",")):
        row(backbone, fresh(backbone), formats, pictures)
    if args.model is not None:
        weights = model_weights.read(args.model, preprocess=args.preprocess)
        subject = subject_of(weights, with_centres=False)
        row(args.model.name, subject, formats, pictures)


if __name__ == "__main__":
    main()
