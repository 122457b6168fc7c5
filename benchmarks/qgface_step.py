"""A step of QGFace beside the plain AdaFace step with as many pictures, on this CPU.

    python benchmarks/qgface_step.py [--identities 8631] [--rounds 3]
    python benchmarks/qgface_step.py --identities 1000000 --rounds 1 --no-plain

AdaFace sees 2b images, QGFace two views of b; both classify 2b rows. The queue has as
many slots as there are identities. `plain queue` is QGFace written down as one reads
it: the whole queue is moved to its view, all [b, slots] cosines are formed, and the
rest is left to `jax.grad`. How the steps are measured: `step_process.py`.
"""

import argparse
import sys
from functools import partial

import step_process

ADAFACE = "AdaFace, 2b images"
PROXY, PLAIN = "QGFace, proxy queue", "QGFace, plain queue"
# Name -> overrides of the config.
VARIANTS = {
    ADAFACE: (),
    "QGFace, no contrast": ("qgface.queue=none",),
    "QGFace, batch": ("qgface.queue=batch",),
    "QGFace, momentum queue": ("qgface.queue=momentum",),
    PROXY: (),
    PLAIN: (),
}
# Of the centres, at most, that a way takes; and of the [b, slots] cosines, besides.
COPIES, PLAIN_COPIES, COSINES = 7, 10, 6


def load_config(args):
    """Returns the config of a variant; every pair is contrasted, for the plain way."""
    from qface_jax.settings import config as configs

    alone = args.worker == ADAFACE
    words = (
        "data.path=unknown",
        "model.backbone=mini",
        f"model.embedding_dim={args.dim}",
        f"data.batch_size={2 * args.batch if alone else args.batch}",
        f"objective={'classification' if alone else 'qgface'}",
        "qgface.partition=none",
        *VARIANTS[args.worker],
    )
    overrides = [f"--config.{word}" for word in words]
    return configs.load("qgface_e", overrides)


def plain_contrast(spec, q, k, queue, labels, centres):
    """The contrastive loss as one writes it first, in place of the sharded one."""
    import jax
    import jax.numpy as jnp

    q = q / jnp.linalg.norm(q, axis=1, keepdims=True)
    k = jax.lax.stop_gradient(k / jnp.linalg.norm(k, axis=1, keepdims=True))
    then = jnp.linalg.norm(queue.proxies, axis=1, keepdims=True)
    length = jnp.linalg.norm(queue.z, axis=1, keepdims=True)
    ratio = jnp.where(then > 0, length / jnp.where(then > 0, then, 1.0), 0.0)
    view = queue.z + ratio * (centres[queue.labels] - queue.proxies)
    cosines = jnp.clip(q @ jax.lax.stop_gradient(view).T, -1.0, 1.0)
    negative = (queue.labels[None] != labels[:, None]) & (queue.labels[None] >= 0)
    logits = jnp.where(negative, spec.scale * cosines, -1e30)
    positive = jnp.sum(q * k, axis=1)
    pool = jnp.concatenate([spec.scale * positive[:, None], logits], axis=1)
    loss = -jax.nn.log_softmax(pool)[:, 0]
    mean = jnp.sum(jnp.where(negative, cosines, 0.0), axis=1) / jnp.sum(negative, 1)
    return loss, positive, mean


def work(args):
    """Runs one variant."""
    step_process.prepare()
    from qface_jax.sharded import sharded_queue

    if args.worker == PLAIN:
        sharded_queue.contrastive_loss = plain_contrast
    config = load_config(args)
    views = 1 if args.worker == ADAFACE else 2
    batches = step_process.random_batches(
        args.steps, config.data.batch_size, args.identities, views
    )
    step_process.work(partial(step_process.our_run, config, args.identities), batches)


def check_memory(args, name):
    """Ends with a message where a way would not fit."""
    copy = args.identities * args.dim * 4
    need = COPIES * copy
    if name == PLAIN:
        need = PLAIN_COPIES * copy + COSINES * args.batch * args.identities * 4
    what = f"{name}, --identities {args.identities}"
    step_process.check_memory(need + 2 * step_process.GIB, what)


def report(runs_of, args):
    """Prints the table and checks that ours and the plain way do the same."""
    print(
        f"{args.identities:,} identities and slots, b {args.batch} pairs, d "
        f"{args.dim}, {args.rounds} rounds of {args.steps} steps"
    )
    step_process.table(runs_of, ADAFACE)
    if PLAIN not in runs_of:
        return
    losses = {name: runs[0]["losses"] for name, runs in runs_of.items()}
    worst = max(
        abs(ours / plain - 1)
        for ours, plain in zip(losses[PROXY], losses[PLAIN], strict=True)
    )
    print(f"loss: ours and the plain queue differ by at most {worst:.1e} of it")
    if worst > 1e-3:
        sys.exit("ours and the plain queue do not compute the same loss")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--identities", type=int, default=8631, help="VGGFace2: 8,631")
    parser.add_argument("--batch", type=int, default=64, help="b, pairs")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5, help="timed, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-plain", action="store_true", help="it needs most memory")
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    names = [name for name in VARIANTS if name != PLAIN or not args.no_plain]
    runs_of = step_process.compare(names, args.rounds, partial(check_memory, args))
    report(runs_of, args)


if __name__ == "__main__":
    main()
