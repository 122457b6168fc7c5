"""What a training step computes, sends and keeps per device as devices are added.

    python benchmarks/scaling.py [--classes 1000000] [--batch-per-device 128]

The batch of each device stays the same. Nothing is run: the step is compiled for 1, 2,
4 and 8 devices that need not exist, each in its own process, and read as `qface plan`
does. Keys of the config are overridden by --config.KEY=VALUE.
"""

import argparse
import dataclasses
import json
import subprocess
import sys

DEVICES = (1, 2, 4, 8)


@dataclasses.dataclass
class Row:
    """A line of the table: a name, and how to find and write its value."""

    name: str
    value: object
    write: object


def work(args, overrides):
    """Prints the plan for so many devices as JSON."""
    from qface_jax.launch import backend
    from qface_jax.settings import config as configs

    backend.prepare()
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.worker)

    from qface_jax.planning import plan, plan_text

    words = [
        "--config.data.path=unknown",
        f"--config.model.backbone={args.backbone}",
        f"--config.classifier.sample_rate={args.sample_rate}",
        f"--config.data.batch_size={args.batch_per_device * args.worker}",
        *overrides,
    ]
    config = configs.load(args.config, words)
    planned = plan.plan(config, num_classes=args.classes, images=20 * args.classes)
    answer = {
        "items": planned.items,
        "peak": planned.peak,
        "creation": planned.creation,
        "step": planned.step,
        "class side": planned.class_side,
        "backbone": plan_text.backbone_side(planned),
    }
    print(json.dumps({k: v._asdict() if hasattr(v, "_asdict") else v
                      for k, v in answer.items()}))  # fmt: skip


def rows(plans):
    """The lines of the table for the plans by number of devices."""
    from qface_jax.planning import plan_text

    def item(name):
        return lambda facts: facts["items"][name]

    def sent(side, kind):
        return lambda facts: facts[side]["traffic"].get(kind, 0)

    table = [
        Row("products, whole step", lambda f: f["step"]["work"], plan_text.work),
        Row("products, class side", lambda f: f["class side"]["work"], plan_text.work),
    ]
    for side in ("backbone", "class side"):
        kinds = {
            k for f in plans.values() for k in f[side]["traffic"] if sent(side, k)(f)
        }
        table += [
            Row(f"{kind}, {side}", sent(side, kind), plan_text.size)
            for kind in sorted(kinds)
        ]
    table += [
        Row(name, item(name), plan_text.size)
        for name in next(iter(plans.values()))["items"]
    ]
    table.append(Row("peak", lambda facts: facts["peak"], plan_text.size))
    made = Row("while the state is made", lambda f: f["creation"], plan_text.size)
    return [*table, made]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="adaface_r50_webface4m")
    parser.add_argument("--backbone", default="iresnet50")
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--batch-per-device", type=int, default=128)
    parser.add_argument("--sample-rate", type=float, default=1.0)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args, overrides = parser.parse_known_args()
    wrong = [word for word in overrides if not word.startswith("--config.")]
    if wrong:
        parser.error(f"unknown argument(s): {' '.join(wrong)}")
    if args.worker:
        work(args, overrides)
        return
    plans = {}
    for devices in DEVICES:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", str(devices)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        plans[devices] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{args.config}, {args.backbone}, {args.classes:,} classes, batch "
        f"{args.batch_per_device} per device, sample rate {args.sample_rate:g}; "
        "per device and step"
    )
    print(f"{'devices':<40}" + "".join(f"{devices:>13}" for devices in plans))
    for row in rows(plans):
        values = (row.write(row.value(facts)) for facts in plans.values())
        print(f"{row.name:<40}" + "".join(f"{value:>13}" for value in values))


if __name__ == "__main__":
    main()
