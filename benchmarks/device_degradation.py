"""What `degrade.on=device` adds to a training step, for each recipe, on this machine.

    python benchmarks/device_degradation.py [--backbone iresnet18] [--batch 16]
        [--rounds 7] [--recipes adaface qgface ...]

Three programs run in turn, round after round in one process: the training step on
pictures that were degraded before, the step that degrades, and the degradation alone.
The extra time is the median over the rounds of the difference of the two steps of a
round, so that a machine that is busy for a while slows both; given by the clock and by
processor time of this process.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np

from qface_jax.data_pipelines.sources import training as sources
from qface_jax.launch import backend
from qface_jax.settings import config as configs
from qface_jax.sharded import parallel
from qface_jax.train import setup

OBJECTIVES = {
    "clean": "classification",
    "adaface": "classification",
    "resolution": "classification",
    "qgface": "qgface",
    "octuplet": "octuplet",
    "recognizability": "classification",
}


def parts(recipe, on, args):
    words = {
        "objective": OBJECTIVES[recipe],
        "model.backbone": args.backbone,
        "data.batch_size": args.batch,
        "data.synthetic.identities": args.batch,
        "data.synthetic.images_per_identity": 4,
        "degrade.recipe": recipe,
        "degrade.on": on,
    }
    config = configs.load("demo", [f"--config.{k}={v}" for k, v in words.items()])
    source = sources.training_source(config)
    return setup.build(config, source, parallel.make_mesh(jax.devices()[:1]))


def timed(call):
    """Returns the clock's and the processor's seconds of a call, and its result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(call())
    return time.perf_counter() - clock, time.process_time() - processor, result


def measure(recipe, args):
    """Returns medians by name, each (clock, processor), in seconds a picture."""
    host, device = parts(recipe, "host", args), parts(recipe, "device", args)
    key = parallel.replicate(device.train_key, device.shard)
    number = parallel.replicate(np.int32(0), device.shard)
    ((rows),) = device.batches(0, 1)
    plain = parallel.to_device(rows, device.shard.rows)
    seen = parallel.to_device(device.seen(0, rows), device.shard.rows)
    states = {"step": setup.fresh_state(host), "degrades": setup.fresh_state(device)}
    seconds = {"step": [], "extra": [], "alone": []}
    for round_number in range(args.rounds + 1):
        times = {}
        for name, made, batch in (
            ("step", host, seen),
            ("degrades", device, plain),
        ):
            *times[name], (states[name], _) = timed(
                lambda name=name, made=made, batch=batch: made.step_fn(
                    states[name], batch, key
                )
            )
        *times["alone"], _ = timed(lambda: device.degrade(key, number, plain["images"]))
        times["extra"] = np.subtract(times["degrades"], times["step"])
        if round_number:  # the first compiles
            for name, column in seconds.items():
                column.append(np.asarray(times[name]) / args.batch)
    return {
        name: [statistics.median(x) for x in zip(*column, strict=True)]
        for name, column in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="iresnet18")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recipes", nargs="+", default=list(OBJECTIVES))
    args = parser.parse_args()
    backend.prepare()  # as the console command does, before JAX is first used
    device = jax.devices()[0].device_kind
    print(
        f"{args.backbone}, batch {args.batch}, {device}, medians of {args.rounds}; "
        "ms a picture by the clock (processor time)"
    )
    print(f"{'':18}{'step':>18}{'extra':>18}{'share':>8}{'degradation alone':>20}")
    for recipe in args.recipes:
        found = measure(recipe, args)
        cells = {
            name: f"{1000 * clock:.2f} ({1000 * processor:.2f})"
            for name, (clock, processor) in found.items()
        }
        share = found["extra"][1] / found["step"][1]
        print(
            f"{recipe:18}{cells['step']:>18}{cells['extra']:>18}{share:8.1%}"
            f"{cells['alone']:>20}",
            flush=True,
        )


if __name__ == "__main__":
    main()
