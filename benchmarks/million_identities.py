"""Training steps on a million identities: ours beside the plain way, on this CPU.

    python benchmarks/million_identities.py [--classes 1000000] [--rounds 3]

All train the same small backbone with AdaFace and momentum SGD on the same random
images, from the same parameters. Plain is what one writes first: all centres are
normalised, the [b, c] logits are formed, and the rest is left to `jax.grad`. Each runs
in a process of its own, one at a time, the order turned around from round to round, so
that other load on the machine falls on all alike. Two times are given: by the clock,
and of the processor, which other programs disturb less. Peak memory is that of the
steps; what making the state took before is not in it.
"""

import argparse
import ctypes
import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

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
GIB = 2**30
# Of the centres, at most, in the plain way and while the state is made; and of the
# logits, besides.
COPIES, LOGITS = 6, 4
WARM_UP = 2  # steps that compile: the plain state comes back with other shardings


def load_config(args):
    """Returns the config of a variant."""
    from qface_jax import config as configs

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

    from qface_jax import models, plan
    from qface_jax.train import optim, setup

    parts = setup.build(config, plan.Counts(classes, 20 * classes))
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


def our_run(config, classes):
    """Returns our state and the train step that `qface train` runs."""
    from qface_jax import plan
    from qface_jax.train import setup

    parts = setup.build(config, plan.Counts(classes, 20 * classes))

    def step(state, batch):
        state, metrics = parts.step_fn(state, batch, parts.train_key)
        return state, metrics["loss"]

    return setup.fresh_state(parts), step


def batches(args, shard):
    """Yields random batches on the device, the same for every variant."""
    import numpy as np

    from qface_jax import parallel

    for number in range(args.steps + WARM_UP):
        random = np.random.default_rng(number)
        rows = {
            "images": random.integers(0, 256, (args.batch, 112, 112, 3), np.uint8),
            "labels": random.integers(0, args.classes, args.batch, np.int32),
        }
        yield parallel.to_device(rows, shard.rows)


def resident():
    """Returns the bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def work(args):
    """Runs one variant and prints losses, seconds and bytes as JSON."""
    from qface_jax.launch import backend

    backend.prepare()
    import jax

    jax.config.update("jax_platforms", "cpu")
    from qface_jax import parallel

    config = load_config(args)
    build = plain_run if args.worker == PLAIN else our_run
    state, step = build(config, args.classes)
    jax.block_until_ready(state)
    # What making the state took is free a moment later, but not yet given back.
    time.sleep(2.0)
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    seconds, worked, losses = [], [], []
    for batch in batches(args, parallel.shardings(parallel.make_mesh())):
        jax.block_until_ready(batch)
        start, busy = time.perf_counter(), time.process_time()
        state, loss = step(state, batch)
        jax.block_until_ready((state, loss))
        seconds.append(time.perf_counter() - start)
        worked.append(time.process_time() - busy)
        losses.append(float(loss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"losses": losses, "before": before, "peak": peak}
    times = {"seconds": seconds[WARM_UP:], "processor": worked[WARM_UP:]}
    print(json.dumps(found | times))


def check_memory(args):
    """Ends with a message where the plain way would not fit."""
    text = Path("/proc/meminfo").read_text()
    available = int(text.split("MemAvailable:")[1].split()[0]) * 1024
    copy = args.classes * args.dim * 4
    need = COPIES * copy + LOGITS * args.batch * args.classes * 4 + 2 * GIB
    if available < need:
        sys.exit(
            f"--classes {args.classes}: got {available / GIB:.1f} GiB of free memory, "
            f"expected {need / GIB:.1f} GiB; give fewer --classes or end other programs"
        )


def timed(key, runs, plain):
    """Returns the median time of a step and its ratio to the plain way, as text."""
    ours, theirs = ([statistics.median(run[key]) for run in x] for x in (runs, plain))
    # Rounds of the same number ran close to each other.
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{statistics.median(ours):.2f}", f"{ratio:.2f}"


def report(found, args):
    """Prints the table and checks that ours and the plain way do the same."""
    print(
        f"{args.classes:,} identities, batch {args.batch}, d {args.dim}, "
        f"{args.rounds} rounds of {args.steps} steps"
    )
    columns = ("s a step", "ratio", "processor s", "ratio", "state", "peak", "steps")
    print(f"{'':<24}" + "".join(f"{column:>12}" for column in columns))
    for name, runs in found.items():
        before = max(run["before"] for run in runs)
        peak = max(run["peak"] for run in runs)
        cells = [
            *timed("seconds", runs, found[PLAIN]),
            *timed("processor", runs, found[PLAIN]),
            *(f"{x / GIB:.2f} GiB" for x in (before, peak, peak - before)),
        ]
        print(f"{name:<24}" + "".join(f"{cell:>12}" for cell in cells))
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
    found = {name: [] for name in VARIANTS}
    for number in range(args.rounds):
        for name in list(VARIANTS)[:: 1 if number % 2 == 0 else -1]:
            check_memory(args)
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            run = json.loads(done.stdout.splitlines()[-1])
            found[name].append(run)
            seconds = ", ".join(f"{value:.2f}" for value in run["seconds"])
            print(f"round {number + 1}, {name}: {seconds} s", file=sys.stderr)
    report(found, args)


if __name__ == "__main__":
    main()
