"""A step of AdaFace beside that of ArcFace: what the quality adaptive margin costs.

    python benchmarks/adaface_step.py [--backbone iresnet18] [--rounds 20]

One process holds the step of every way; a round takes one step of each, on the same
batch, in an order that is turned from round to round. A ratio is that of a round, so
other load on the machine falls on both alike. AdaFace is measured with each proxy of
its Table 1; the paper gives 0.322 s against 0.319 s, norm, on its own machine.
"""

import argparse
import statistics
import time

import step_process

ARCFACE = "ArcFace"
# Name -> overrides of the config.
VARIANTS = {
    ARCFACE: ("loss.margin=arcface",),
    "AdaFace, norm": (),
    "AdaFace, probability": ("loss.adaface.proxy=probability",),
    "AdaFace, 1 - BRISQUE": ("loss.adaface.proxy=brisque",),
}


def load_config(args, name):
    """Returns the config of a variant."""
    from qface_jax.settings import config as configs

    words = (
        f"model.backbone={args.backbone}",
        f"model.embedding_dim={args.dim}",
        f"data.batch_size={args.batch}",
        "optim.warmup_steps=0",
        "loss.margin=adaface",
        *VARIANTS[name],
    )
    return configs.load("demo", [f"--config.{word}" for word in words])


def measure(args):
    """Returns name -> seconds of its step in each round."""
    import jax

    runs = {}
    for name in VARIANTS:
        print(f"{name}: compiles", flush=True)
        runs[name] = step_process.our_run(load_config(args, name), args.identities)
    states = {name: state for name, (state, _) in runs.items()}
    seconds = {name: [] for name in VARIANTS}
    names = list(VARIANTS)
    batches = step_process.random_batches(args.rounds, args.batch, args.identities)
    for number, batch in enumerate(batches):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            jax.block_until_ready((batch, states[name]))
            start = time.perf_counter()
            states[name], loss = runs[name][1](states[name], batch)
            jax.block_until_ready((states[name], loss))
            seconds[name].append(time.perf_counter() - start)
    return {name: taken[step_process.WARM_UP :] for name, taken in seconds.items()}


def report(seconds, args):
    """Prints a line for each way: its median step, and its ratio to ArcFace's."""
    print(
        f"{args.backbone}, b {args.batch}, d {args.dim}, {args.identities:,} "
        f"identities, {args.rounds} rounds; ratio: median [quartiles] over the rounds"
    )
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(taken, seconds[ARCFACE], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:<22}{statistics.median(taken):8.3f} s  ratio {middle:.3f} "
            f"[{low:.3f}, {high:.3f}]"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mini")
    parser.add_argument("--identities", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    step_process.prepare()
    report(measure(args), args)


if __name__ == "__main__":
    main()
