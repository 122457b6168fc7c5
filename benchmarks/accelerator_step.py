"""A training step on one accelerator beside the same step in PyTorch.

    python benchmarks/accelerator_step.py [--batch 256] [--classes 85742] [--rounds 3]

IResNet-50 and ArcFace over all classes, SGD with momentum, on batches that lie on the
device: ours as `qface train` runs it, with bfloat16 compute, and PyTorch's as
arcface_torch's users run theirs, channels last under bfloat16 autocast, eager and
compiled. Each way runs in a process of its own, in turns. It needs a GPU and PyTorch,
which is no dependency of this package.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

OURS, EAGER, COMPILED = "ours", "PyTorch", "PyTorch, compiled"
WARM_UP = 5
SCALE, MARGIN, RATE, DIM = 64.0, 0.5, 0.1, 512


def our_step(args):
    """Returns () -> loss, one step each, and the peak in bytes."""
    import jax
    import numpy as np
    from step_process import our_run

    from qface_jax.settings import config as configs
    from qface_jax.sharded import parallel

    words = (
        "data.path=unknown",
        f"data.batch_size={args.batch}",
        "model.dtype=bfloat16",
        "loss.margin=arcface",
        *args.set,
    )
    config = configs.load("adaface_r50_ms1mv2", [f"--config.{w}" for w in words])
    state, step = our_run(config, args.classes)
    random = np.random.default_rng(0)
    shape = (args.batch, 112, 112, 3)
    rows = {
        "images": random.integers(0, 256, shape, np.uint8),
        "labels": random.integers(0, args.classes, args.batch, np.int32),
    }
    batch = parallel.to_device(rows, parallel.shardings(parallel.make_mesh()).rows)
    held = [state]

    def one():
        held[0], loss = step(held[0], batch)
        return loss

    def peak():
        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]

    return one, float, peak


def torch_step(args):
    """Returns () -> loss, one step each, and the peak in bytes."""
    import torch
    from torch.nn import functional
    from torch_iresnet import UNITS, iresnet

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    network = iresnet(UNITS["iresnet50"], DIM).cuda()
    network = network.to(memory_format=torch.channels_last)
    centres = torch.nn.Parameter(0.01 * torch.randn(args.classes, DIM, device="cuda"))
    parameters = [*network.parameters(), centres]
    optimizer = torch.optim.SGD(parameters, RATE, momentum=0.9, weight_decay=5e-4)
    shape = (args.batch, 3, 112, 112)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, args.classes, (args.batch,), device="cuda")
    rows = torch.arange(args.batch, device="cuda")

    def loss_of(images, labels):
        with torch.autocast("cuda", torch.bfloat16):
            features = network(images.float() / 127.5 - 1.0)
            z, w = functional.normalize(features.float()), functional.normalize(centres)
            cos = functional.linear(z, w).float().clamp(-1.0, 1.0)
        theta = torch.arccos(cos[rows, labels].clamp(-1 + 1e-7, 1 - 1e-7))
        logits = cos.index_put((rows, labels), torch.cos(theta + MARGIN))
        return functional.cross_entropy(SCALE * logits, labels)

    if args.worker == COMPILED:
        loss_of = torch.compile(loss_of)

    def one():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        return loss

    return one, lambda loss: loss.item(), torch.cuda.max_memory_allocated


def work(args):
    """Runs one way and prints seconds a step and peak memory."""
    one, wait, peak = our_step(args) if args.worker == OURS else torch_step(args)
    start = time.perf_counter()
    for _ in range(WARM_UP):
        wait(one())
    compiled = time.perf_counter() - start
    seconds = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        for _ in range(args.steps - 1):
            one()
        wait(one())
        seconds.append((time.perf_counter() - start) / args.steps)
    figures = {
        "seconds": statistics.median(seconds),
        "peak": peak(),
        "first": compiled,
    }
    print(json.dumps(figures))


def parse():
    """Returns the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--classes", type=int, default=85_742)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--worker")
    return parser.parse_args()


def main():
    """Runs all ways in turns and prints them side by side."""
    args = parse()
    if args.worker:
        work(args)
        return
    figures = {name: [] for name in (OURS, EAGER, COMPILED)}
    for number in range(args.rounds):
        for name in list(figures)[:: 1 if number % 2 == 0 else -1]:
            command = [sys.executable, *sys.argv, "--worker", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            figures[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}, {name}: {figures[name][-1]}", file=sys.stderr)
    base = figures[EAGER]
    print(f"{'':<20}{'images/s':>12}{'time':>8}{'peak GiB':>10}{'first steps s':>15}")
    for name, runs in figures.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        ratio = statistics.median(
            run["seconds"] / other["seconds"]
            for run, other in zip(runs, base, strict=True)
        )
        peak = max(run["peak"] for run in runs) / 2**30
        first = statistics.median(run["first"] for run in runs)
        print(
            f"{name:<20}{args.batch / seconds:>12,.0f}{ratio:>8.2f}{peak:>10.2f}"
            f"{first:>15.1f}"
        )


if __name__ == "__main__":
    main()
