"""Small evaluations and run folders."""

import dataclasses
import json
import types

import numpy as np

from qface_jax.evals import results
from qface_jax.evals.protocols.protocol import EvalSettings
from qface_jax.evals.protocols.verification import Verification
from qface_jax.inference.embedder import Embedder
from qface_jax.processes.share import ALONE
from qface_jax.train import evaluation

SIDES = (112, 28, 7)


class Pairs:
    """Forty pairs of ten identities; an image is its identity, drawn in one pixel."""

    def __init__(self, name="toy", pairs=40, seed=0):
        rng = np.random.default_rng(seed)
        self.name = name
        self.issame = np.arange(pairs) % 2 == 0
        self.folds = 0
        first = rng.integers(0, 10, pairs)
        second = np.where(self.issame, first, (first + rng.integers(1, 10, pairs)) % 10)
        self.identities = np.stack([first, second], axis=1).ravel()

    def __len__(self):
        return len(self.identities)

    def fetch(self, indices):
        raise AssertionError("the toy draws its own batches")

    def describe(self):
        return {"source": "toy", "seed": 0}

    def batches(self, side, batch_size=16, share=ALONE):
        """Images whose pixels say identity, side and place in the set."""
        pairs = share.pairs(len(self.issame))
        for begin in range(2 * pairs.start, 2 * pairs.stop, batch_size):
            rows = np.arange(begin, min(begin + batch_size, 2 * pairs.stop))
            images = np.zeros((len(rows), 112, 112, 3), np.uint8)
            images[..., 0] = self.identities[rows, None, None]
            images[..., 1] = side
            images[..., 2] = rows[:, None, None]
            yield images


CENTRES = np.random.default_rng(1).normal(size=(10, 32)).astype(np.float32)


def embed(images):
    """The identity's centre, blurred the more the smaller the side was."""
    identity, side, row = (images[:, 5, 5, i].astype(np.int64) for i in range(3))
    noise = np.stack(
        [
            np.random.default_rng(s * 1000 + r).normal(size=32)
            for s, r in zip(side, row, strict=True)
        ]
    )
    return (CENTRES[identity] + (8 / np.maximum(side, 1))[:, None] * noise).astype(
        np.float32
    )


def evaluate(pair_set=None, embed=embed, *, share=ALONE, scores=None, checkpoint=None,
             **changes):  # fmt: skip
    """Runs the verification protocol on the toy pairs."""
    pair_set = pair_set or Pairs()
    values = {"resolutions": SIDES, "flip": False, "batch_size": 16}
    settings = EvalSettings(**values | changes)
    # Each host embeds 16 at a time.
    embedder = Embedder(embed, settings.batch_size)
    if scores is not None:
        embedder = dataclasses.replace(embedder, scores=scores)
    result = evaluation.evaluate(
        Verification(settings, pair_set),
        settings,
        embedder,
        share=share,
        decode=lambda chosen, side, batch_size, _: pair_set.batches(side, share=share),
    )
    return dataclasses.replace(
        result,
        protocol="verification",
        checkpoint=checkpoint or {"path": "checkpoints/30", "step": 30},
        config_hash="0123abcd",
    )


def write_run(folder, *, config=None, result=None):
    """Writes a run folder with every part a report shows."""
    from PIL import Image

    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints" / "30").mkdir(parents=True)
    config = config or {"model": {"backbone": "tiny"}, "total_steps": 30}
    document = {"config": config, "commit": "feedbeef", "versions": {"jax": "1.2.3"}}
    (folder / "config.json").write_text(json.dumps(document))
    with (folder / "metrics.jsonl").open("w") as log:
        for step in range(10, 40, 10):
            event = {"step": step, "time": 1.0 * step, "loss": 9 / step, "lr": 0.1}
            event |= {"norm_mean": 20.0, "images_per_second": 88.0, "accuracy": 0.5}
            log.write(json.dumps(event) + "\n")
        log.write(json.dumps({"step": 30, "toy/mean_cross": 0.75}) + "\n")
    picture = Image.new("RGB", (8, 8), (200, 30, 30))
    picture.save(folder / "samples" / "train_batch.png")
    picture.save(folder / "samples" / "gst_adaface.png")
    results.write(folder, result or evaluate())
    return folder


TOY = types.SimpleNamespace(
    pairs=Pairs, embed=embed, evaluate=evaluate, write_run=write_run, sides=SIDES
)
