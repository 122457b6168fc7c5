"""Octuplet loss and gradient: our mining against the whole matrix of distances.

    python benchmarks/octuplet_mining.py [--batches 256,1024,4096] [--rounds 3]

The released code forms all [2B, 2B] distances, multiplies them with masks and leaves
the rest to the gradient tape. That formulation is written down here in TensorFlow, as
there, and once more in JAX, so that the frameworks can be told from the formulation.
Each way runs in a process of its own, in turns, on this CPU; its loss must be ours. How
they are measured: `step_process.py`.
"""

import argparse
import statistics
import sys
from functools import partial

import numpy as np
import step_process

OURS, TENSORFLOW, JAX = "ours", "TensorFlow, [2B, 2B]", "JAX, [2B, 2B]"
WAYS = (OURS, TENSORFLOW, JAX)
MARGIN = 25.0
IMAGES = 10_240  # of all timed steps of a process, at least MIN_STEPS of them
MIN_STEPS = 3
MIB = 2**20


def example(batch, dim):
    """Returns features of both views and labels: pairs of identities, not far apart."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(batch // 2), 2)).astype(np.int32)
    centres = random.normal(size=(batch // 2, dim)).astype(np.float32)
    views = [
        centres[labels] + spread * random.normal(size=(batch, dim)).astype(np.float32)
        for spread in (0.5, 0.8)
    ]
    return *views, labels


def our_loss(high, low, labels):
    """The octuplet loss as the trainer computes it."""
    from qface_jax.losses.octuplet import octuplet_loss

    return octuplet_loss(high, low, labels, margin=MARGIN)


def matrix_loss(high, low, labels):
    """The octuplet loss by way of all distances, in JAX."""
    import jax.numpy as jnp

    features = jnp.concatenate([high, low])
    products = jnp.einsum("ad,bd->ab", features, features)
    squares = jnp.diagonal(products)
    dist = squares[:, None] - 2.0 * products + squares[None, :]
    dist = jnp.maximum(dist, 0.0)
    zero = (dist == 0.0).astype(jnp.float32)
    dist = jnp.sqrt(dist + 1e-16 * zero) * (1.0 - zero)
    size = labels.shape[0]
    same = labels[:, None] == labels[None, :]
    positive = (same & ~jnp.eye(size, dtype=bool)).astype(jnp.float32)
    negative = (~same).astype(jnp.float32)
    total = 0.0
    for rows in (slice(None, size), slice(size, None)):
        for columns in (slice(None, size), slice(size, None)):
            block = dist[rows, columns]
            largest = jnp.max(block * negative, axis=1, keepdims=True)
            nearest = jnp.min(block + largest * (1.0 - negative), axis=1)
            farthest = jnp.max(block * positive, axis=1)
            total += jnp.mean(jnp.maximum(farthest - nearest + MARGIN, 0.0))
    return total


def jax_step(loss, arrays):
    """Returns a compiled step: (state, batch) -> (state, loss), gradients taken."""
    import jax

    arrays = [jax.device_put(array) for array in arrays]
    grads = jax.jit(jax.value_and_grad(loss, (0, 1)))

    def step(state, _):
        value, gradients = grads(*arrays)
        jax.block_until_ready(gradients)
        return state, value

    return step


def tensorflow_step(arrays):
    """Returns the same step of the released code's formulation."""
    import tensorflow as tf

    high, low, labels = (tf.constant(array) for array in arrays)
    size = len(arrays[2])

    def loss(features):
        products = tf.matmul(features, features, transpose_b=True)
        squares = tf.linalg.diag_part(products)
        dist = squares[:, None] - 2.0 * products + squares[None, :]
        dist = tf.maximum(dist, 0.0)
        zero = tf.cast(tf.equal(dist, 0.0), tf.float32)
        dist = tf.sqrt(dist + 1e-16 * zero) * (1.0 - zero)
        same = tf.equal(labels[:, None], labels[None, :])
        itself = tf.eye(size, dtype=tf.bool)
        positive = tf.cast(same & ~itself, tf.float32)
        negative = tf.cast(~same, tf.float32)
        terms = []
        for row in (0, size):
            for column in (0, size):
                block = tf.slice(dist, [row, column], [size, size])
                largest = tf.reduce_max(block * negative, axis=1, keepdims=True)
                others = block + largest * (1.0 - negative)
                farthest = tf.reduce_max(block * positive, axis=1)
                gap = farthest - tf.reduce_min(others, axis=1)
                terms.append(tf.maximum(gap + MARGIN, 0.0))
        return tf.reduce_mean(tf.add_n(terms))

    @tf.function
    def value_and_gradients():
        with tf.GradientTape() as tape:
            tape.watch([high, low])
            value = loss(tf.concat([high, low], axis=0))
        return value, tape.gradient(value, [high, low])

    def step(state, _):
        value, gradients = value_and_gradients()
        gradients[0].numpy()
        return state, value.numpy()

    return step


def work(args):
    """Runs one way at one batch size."""
    step_process.prepare()
    way, batch = args.worker.rsplit(" ", 1)
    arrays = example(int(batch), args.dim)

    def build():
        if way == TENSORFLOW:
            step = tensorflow_step(arrays)
        else:
            step = jax_step(our_loss if way == OURS else matrix_loss, arrays)
        # Compiled here, so that the peak is that of the steps alone.
        return step(0, None)[0], step

    steps = max(IMAGES // int(batch), MIN_STEPS) + step_process.WARM_UP
    step_process.work(build, range(steps))


def check_memory(args, name):
    """Ends with a message where the matrices would not fit."""
    way, batch = name.rsplit(" ", 1)
    matrices = 1 if way == OURS else 12
    need = matrices * (2 * int(batch)) ** 2 * 4 + step_process.GIB
    step_process.check_memory(need, f"{way}, B {batch}")


def report(runs_of, args):
    """Prints a table for each batch size; ends badly where losses differ."""
    columns = ("ms a step", "ratio", "processor ms", "ratio", "peak MiB", "ratio")
    for batch in args.batches:
        print(f"B {batch}, d {args.dim}, {args.rounds} rounds")
        print(f"{'':<24}" + "".join(f"{column:>14}" for column in columns))
        base = runs_of[f"{TENSORFLOW} {batch}"]
        for way in WAYS:
            runs, cells = runs_of[f"{way} {batch}"], []
            for key in ("seconds", "processor"):
                ours, theirs = (
                    [statistics.median(run[key]) for run in x] for x in (runs, base)
                )
                ratio = statistics.median(
                    a / b for a, b in zip(ours, theirs, strict=True)
                )
                cells += [f"{1e3 * statistics.median(ours):.1f}", f"{ratio:.2f}"]
            peak, theirs = (
                max(run["peak"] - run["before"] for run in x) for x in (runs, base)
            )
            cells += [f"{peak / MIB:,.0f}", f"{peak / theirs:.2f}"]
            print(f"{way:<24}" + "".join(f"{cell:>14}" for cell in cells))
        losses = [runs_of[f"{way} {batch}"][0]["losses"][0] for way in WAYS]
        worst = max(abs(loss / losses[0] - 1) for loss in losses)
        print(f"loss {losses[0]:.5f}; they differ by at most {worst:.1e} of it\n")
        if worst > 1e-4:
            sys.exit("the ways do not compute the same loss")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="256,1024,4096", help="B, images of each")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    args.batches = [int(batch) for batch in args.batches.split(",")]
    names = [f"{way} {batch}" for batch in args.batches for way in WAYS]
    report(step_process.compare(names, args.rounds, partial(check_memory, args)), args)


if __name__ == "__main__":
    main()
