"""Time of a training step of a backbone on this CPU: JAX as it comes, JAX as this
project runs it, and PyTorch where it is installed.

    python benchmarks/backbone_step.py [--backbone iresnet18] [--batch 32] [--rounds 5]

A step is forward, backward and SGD with momentum and weight decay. Every variant lives
in its own process, because XLA reads its flags once, and the rounds go through all of
them in turn, so that other load on the machine falls on all alike. Printed are the best
and the median time, images/s of the best, and the median over the rounds of the time
divided by that of the first variant of the same round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

XLA_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
# Name -> (framework, XLA_FLAGS, options). The first one is what the ratios refer to.
VARIANTS = {
    "torch eager": ("torch", "", ()),
    "torch channels_last": ("torch", "", ("channels_last",)),
    "torch compile": ("torch", "", ("channels_last", "compile")),
    "jax default": ("jax", "", ("plain",)),
    "jax flag": ("jax", XLA_FLAG, ("plain",)),
    "jax flag+gradients": ("jax", XLA_FLAG, ()),
}
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
SIDE, FEATURES = 112, 512


def jax_step(backbone, batch, options):
    """Returns a function that does one step and waits for it."""
    import jax
    import jax.numpy as jnp

    from qface_jax import models
    from qface_jax.configs.base import get_config
    from qface_jax.models import blocks, convolution

    if "plain" in options:

        def plain(x, kernel, *, stride, padding, groups):
            return convolution._plain(
                x, kernel, stride=stride, padding=padding, groups=groups
            )

        blocks.conv2d = plain
    config = get_config().model
    config.backbone, config.embedding_dim = backbone, FEATURES
    model = models.build(config)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    velocity = jax.tree.map(jnp.zeros_like, params)
    images = jax.random.uniform(jax.random.key(1), (batch, SIDE, SIDE, 3), minval=-1)
    target = jax.random.normal(jax.random.key(2), (batch, FEATURES))

    def step(params, stats, velocity):
        def loss_fn(params):
            features, new = model.apply(params, stats, images, train=True, key=None)
            return jnp.mean(features * target), new

        grads, new = jax.grad(loss_fn, has_aux=True)(params)
        velocity = jax.tree.map(
            lambda v, g, p: MOMENTUM * v + g + WEIGHT_DECAY * p, velocity, grads, params
        )
        params = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, params, velocity)
        return params, new, velocity

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    state = [params, stats, velocity]

    def run():
        state[:] = jax.block_until_ready(step(*state))

    return run


def torch_step(backbone, batch, options):
    """Returns a function that does one step."""
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit("PyTorch is not installed: pip install torch==2.13.0")
    from torch_iresnet import UNITS, iresnet

    if backbone not in UNITS:
        sys.exit(f"no {backbone} in PyTorch, only {', '.join(UNITS)}")
    torch.manual_seed(0)
    model = iresnet(UNITS[backbone], FEATURES)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, 0, 0.1)
    images = torch.rand(batch, 3, SIDE, SIDE) * 2 - 1
    if "channels_last" in options:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    target = torch.randn(batch, FEATURES)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
    )
    forward = torch.compile(model) if "compile" in options else model

    def run():
        optimizer.zero_grad(set_to_none=True)
        (forward(images) * target).mean().backward()
        optimizer.step()

    return run


FRAMEWORKS = {"jax": jax_step, "torch": torch_step}


def work(variant, backbone, batch):
    """Answers each line on stdin with the seconds one step took."""
    framework, _, options = VARIANTS[variant]
    run = FRAMEWORKS[framework](backbone, batch, options)
    run()
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


def start_worker(variant, args):
    """Returns the process that runs the variant, once it is warm; None if it cannot."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {VARIANTS[variant][1]}".strip()
    sizes = ("--backbone", args.backbone, "--batch", str(args.batch))
    process = subprocess.Popen(
        [sys.executable, __file__, *sizes, "--worker", variant],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )
    if process.stdout.readline().strip() == "ready":
        return process
    process.wait()
    return None


def measure(process):
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backbone", default="iresnet18")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", default="", help="comma-separated; default all")
    parser.add_argument("--json", action="store_true", help="print JSON as well")
    parser.add_argument("--worker", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.backbone, args.batch)
        return
    names = args.variants.split(",") if args.variants else list(VARIANTS)
    workers = {}
    for name in names:
        process = start_worker(name, args)
        if process is None:
            print(f"{name}: could not run (see above); left out")
        else:
            workers[name] = process
    times = {name: [] for name in workers}
    for _ in range(args.rounds):
        for name, process in workers.items():
            times[name].append(measure(process))
    for process in workers.values():
        process.stdin.close()
        process.wait()
    first = next(iter(times))
    print(
        f"{args.backbone}, batch {args.batch}, {args.rounds} rounds; ratio to {first}"
    )
    for name, values in times.items():
        ratio = statistics.median(
            value / base for value, base in zip(values, times[first], strict=True)
        )
        print(
            f"{name:20s} best {min(values):6.3f} s  "
            f"median {statistics.median(values):6.3f} s  "
            f"{args.batch / min(values):6.1f} images/s  ratio {ratio:.2f}"
        )
    if args.json:
        print(json.dumps(times))


if __name__ == "__main__":
    main()
