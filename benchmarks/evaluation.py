"""Images per second of an evaluation beside the bare forward pass of the same batch.

    python benchmarks/evaluation.py [--backbone=NAME] [--pairs=600] [--rounds=5]

Both run in one process, in turn: a whole evaluation of drawn pairs at five sides, from
encoded pictures to the result, and as many images through the compiled network, one
batch again and again, which is waited for each time. Weights are fresh. The median of
the rounds' ratios is what the evaluation keeps of the network's speed.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from qface_jax import models
from qface_jax.configs.base import get_config
from qface_jax.inference.embedder import Embedder
from qface_jax.launch import backend
from qface_jax.sharded import parallel
from qface_jax.train.evaluation import Evaluation


def fresh_embedder(config):
    """Returns what embeds by fresh weights."""
    params, stats = jax.jit(models.build(config.model).init)(jax.random.key(0))
    parts = {"params/backbone": params, "stats": stats}
    return Embedder.of_parts(parts, config, parallel.make_mesh(), names=("norm",))


def evaluate(evaluation, embedder):
    """Returns the seconds that all benchmarks take."""
    began = time.perf_counter()
    for result in evaluation.run(embedder, checkpoint={}):
        assert result.status == "ok", result.message
    return time.perf_counter() - began


def forward(embedder, batch, calls):
    """Returns the seconds that the network takes for so many batches."""
    began = time.perf_counter()
    for _ in range(calls):
        np.asarray(embedder.forward(batch))
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilefacenet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    backend.prepare()
    config = get_config()
    config.model.backbone = args.backbone
    config.eval.batch_size = args.batch
    config.eval.flip = False
    config.eval.synthetic.pairs = args.pairs
    embedder = fresh_embedder(config)
    evaluation = Evaluation(config)
    images = 2 * args.pairs * len(config.eval.resolutions)
    calls = -(-images // args.batch)
    batch = np.random.default_rng(0).integers(0, 256, (args.batch, 112, 112, 3))
    batch = batch.astype(np.uint8)
    evaluate(evaluation, embedder)
    forward(embedder, batch, 2)
    rates, ratios = [], []
    for _ in range(args.rounds):
        bare = forward(embedder, batch, calls)
        whole = evaluate(evaluation, embedder)
        # The last batch of a side is filled up: the network sees more than it counts.
        bare_rate, rate = calls * args.batch / bare, images / whole
        rates.append((bare_rate, rate))
        ratios.append(rate / bare_rate)
    bare_rate, rate = map(statistics.median, zip(*rates, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{args.backbone}, batch {args.batch}, {images:,} images a round")
    print(f"forward pass {bare_rate:.1f} images/s, evaluation {rate:.1f}")
    print(f"ratio {middle:.3f} [{low:.3f}, {high:.3f}] of {args.rounds} rounds")


if __name__ == "__main__":
    main()
