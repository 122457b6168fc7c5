"""Time and memory of the streamed classifier against plain [b, c] logits.

Loss and gradient of AdaFace with respect to features and centres, on one device. Both
forms run in this one process, in turn; the ratio of their medians is what counts.

    python benchmarks/classifier.py --batch 64 --classes 500000 --dim 512
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from qface_jax.losses import margin, norm_stats
from qface_jax.losses.margins.margin import build_margin
from qface_jax.objectives.classification import margin_loss, unit
from qface_jax.sharded import classifier, parallel

SCALE = 64.0


def plain_loss(features, centres, labels):
    """AdaFace by way of the whole [b, c] matrix."""
    norms = norm_stats.feature_norms(features)
    stats = norm_stats.update(norm_stats.init(), norms)
    w = centres / jnp.linalg.norm(centres, axis=1, keepdims=True)
    cos = jnp.einsum("bd,cd->bc", unit(features), w)
    target = labels[:, None] == jnp.arange(centres.shape[0])[None, :]
    quality = norm_stats.norm_hat(stats, norms)
    logits = margin.adaface_logits(cos, target, quality, scale=SCALE)
    target_logit = jnp.sum(jnp.where(target, logits, 0.0), axis=1)
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - target_logit)


def streamed_loss(chunk, classes, mesh):
    """AdaFace as the trainer computes it."""
    adaface = build_margin("adaface")
    spec = classifier.ClassifierSpec(adaface.negative, SCALE, classes, chunk, mesh)

    def loss(features, centres, labels):
        value, _, _ = margin_loss(
            features, centres, labels, adaface.init(), margin=adaface, spec=spec
        )
        return value

    return loss


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--classes", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    mesh = parallel.make_mesh(jax.devices()[:1])
    keys = jax.random.split(jax.random.key(0), 3)
    features = 20 * jax.random.normal(keys[0], (args.batch, args.dim))
    centres = classifier.init_centres(
        keys[1], args.classes, args.dim, mesh=mesh, blocks=1
    )
    labels = jax.random.randint(keys[2], (args.batch,), 0, args.classes)
    losses = {
        "plain": plain_loss,
        "streamed": streamed_loss(args.chunk, args.classes, mesh),
    }
    compiled, seconds, values = {}, {name: [] for name in losses}, {}
    for name, loss in losses.items():
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        compiled[name] = step.lower(features, centres, labels).compile()
        values[name] = jax.block_until_ready(compiled[name](features, centres, labels))
    for _ in range(args.rounds):
        for name, step in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(step(features, centres, labels))
            seconds[name].append(time.perf_counter() - start)

    memory = {n: c.memory_analysis().temp_size_in_bytes for n, c in compiled.items()}
    median = {n: statistics.median(s) for n, s in seconds.items()}
    print(f"b {args.batch}, c {args.classes}, d {args.dim}, {args.rounds} rounds")
    for name in losses:
        mib = memory[name] / 2**20
        print(f"{name:>9}: {median[name]:.3f} s, temporary memory {mib:,.1f} MiB")
    print(
        f"streamed / plain: time {median['streamed'] / median['plain']:.2f}, "
        f"memory {memory['streamed'] / memory['plain']:.3f}"
    )
    (loss_a, grads_a), (loss_b, grads_b) = values["plain"], values["streamed"]
    difference = max(
        float(np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(a))
        for a, b in zip(grads_a, grads_b, strict=True)
    )
    print(
        f"loss {float(loss_a):.6f} and {float(loss_b):.6f}; "
        f"gradients differ by {difference:.1e} of their norm"
    )


if __name__ == "__main__":
    main()
