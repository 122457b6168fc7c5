"""Training steps on a million identities: ours beside the plain way, on this CPU.

    python benchmarks/million_identities.py [--classes 1000000] [--rounds 3]

All train the same small backbone with AdaFace and momentum SGD on the same random
images, from the same parameters. Plain is what one writes first: all centres are
normalised, the [b, c] logits are formed, and the rest is left to `jax.grad`. How they
are measured: `step_process.py`.
"""

import argparse
import sys
from functools import partial

import step_process

PLAIN = "plain [b, c]"
FULL = "ours"
# Name -> overrides of the config.
VARIANTS = {
    PLAIN: (),
    FULL: (),
    "ours, bfloat16 centres": ("classifier.dtype=bfloat16",),
    "ours, Partial FC 0.1": ("classifier.sample_rate=0.1",),
    "ours, both": ("classifier.dtype=bfloat16", "classifier.sample_rate=0.1"),
}
# Of the centres, at most, in the plain way and while the state is made; and of the
# logits, besides.
COPIES, LOGITS = 6, 4


def load_config(args):
    """Returns the config of a variant."""
    from qface_jax.settings import config as configs

    words = (
        "data.path=unknown",
        "model.backbone=mini",
        "model.dropout=0.0",
        f"model.embedding_dim={args.dim}",
        f"data.batch_size={args.batch}",
        *VARIANTS[args.worker],
    )
    overrides = [f"--config.{word}" for word in words]
    return configs.load("adaface_r50_webface4m", overrides)


def adaface_logits(features, centres, labels, mean, std):
    """AdaFace as in its paper, eq. 16-19; returns [b, c] logits, new mean and std."""
    import jax
    import jax.numpy as jnp

    norms = jnp.linalg.norm(features, axis=1, keepdims=True)
    z = features / norms
    w = centres / jnp.linalg.norm(centres, axis=1, keepdims=True)
    cos = jnp.clip(z @ w.T, -1 + 1e-3, 1 - 1e-3)
    norms = jax.lax.stop_gradient(jnp.clip(norms[:, 0], 1e-3, 100))
    mean = 0.01 * jnp.mean(norms) + 0.99 * mean
    std = 0.01 * jnp.std(norms, ddof=1) + 0.99 * std
    quality = jnp.clip(0.333 * (norms - mean) / (std + 1e-3), -1, 1)
    cos_y = jnp.take_along_axis(cos, labels[:, None], axis=1)[:, 0]
    theta = jnp.clip(jnp.arccos(cos_y) - 0.4 * quality, 1e-3, jnp.pi - 1e-3)
    own = jnp.cos(theta) - (0.4 + 0.4 * quality)
    one_hot = jax.nn.one_hot(labels, centres.shape[0], dtype=bool)
    return 64.0 * jnp.where(one_hot, own[:, None], cos), mean, std


def plain_run(config, classes):
    """Returns the plain state and its jitted step (state, batch) -> (state, loss)."""
    import jax
    import jax.numpy as jnp
    import optax

    from qface_jax import models
    from qface_jax.planning import plan
    from qface_jax.sharded import parallel
    from qface_jax.train import optim, setup

    parts = setup.build(
        config, plan.Counts(classes, 20 * classes), parallel.make_mesh()
    )
    fresh = setup.fresh_state(parts)
    model = models.build(config.model)
    rate = optim.build(config.optim, parts.length)[1]
    tx = optax.chain(
        optax.add_decayed_weights(config.optim.weight_decay, mask=optim.decayed),
        optax.sgd(rate, momentum=config.optim.momentum),
    )
    params = {
        "backbone": fresh.params["backbone"],
        "centres": fresh.params["head"]["centres"][:classes],
    }
    stats = fresh.stats
    del fresh

    def loss_fn(params, stats, mean, std, batch):
        images = batch["images"].astype(jnp.float32) / 127.5 - 1.0
        features, stats = model.apply(
            params["backbone"], stats, images, train=True, key=None
        )
        logits, mean, std = adaface_logits(
            features, params["centres"], batch["labels"], mean, std
        )
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch["labels"][:, None], axis=1
        )
        return -jnp.mean(chosen), (stats, mean, std)

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        params, opt_state, *rest = state
        (loss, rest), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, *rest, batch
        )
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, *rest), loss

    state = (params, tx.init(params), stats, jnp.float32(20.0), jnp.float32(100.0))
    return state, step


def work(args):
    """Runs one variant."""
    step_process.prepare()
    config = load_config(args)
    build = plain_run if args.worker == PLAIN else step_process.our_run
    batches = step_process.random_batches(args.steps, args.batch, args.classes)
    step_process.work(partial(build, config, args.classes), batches)


def memory_needed(args):
    """Returns the bytes that the plain way takes."""
    copy = args.classes * args.dim * 4
    logits = args.batch * args.classes * 4
    return COPIES * copy + LOGITS * logits + 2 * step_process.GIB


def report(found, args):
    """Prints the table and checks that ours and the plain way do the same."""
    print(
        f"{args.classes:,} identities, batch {args.batch}, d {args.dim}, "
        f"{args.rounds} rounds of {args.steps} steps"
    )
    step_process.table(found, PLAIN)
    first = {name: runs[0]["losses"][0] for name, runs in found.items()}
    difference = abs(first[FULL] / first[PLAIN] - 1)
    print(
        f"loss of step 1: plain {first[PLAIN]:.6f}, ours {first[FULL]:.6f}; "
        f"they differ by {difference:.1e} of it"
    )
    if difference > 1e-4:
        sys.exit("ours and the plain way do not compute the same loss")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5, help="timed, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    need, what = memory_needed(args), f"--classes {args.classes}"
    found = step_process.compare(
        VARIANTS, args.rounds, lambda name: step_process.check_memory(need, what)
    )
    report(found, args)


if __name__ == "__main__":
    main()
