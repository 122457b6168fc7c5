"""`qface plan`: what a run needs on each device, before anything is launched."""

import argparse

from qface_jax.launch.commands.command import Command

DESCRIPTION = """Compile a config's training step for devices that need not exist and
print, for each of them, the bytes that it needs, by item, what it computes and sends in
a step, the global batch and the number of steps; when it does not fit, what to change.
For TPUs their own compiler does it; it also counts the bytes between memory and core,
and so the most images per second that a chip's published rates allow."""
DEFAULT_MEMORY = 80.0  # GiB, of devices of which nothing is known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("--config", required=True, metavar="NAME", help="as in train")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--topology",
        metavar="NAME",
        help="TPU and layout of its chips, as v5e:4x8, v5p:4x4x4 or v6e:8x8 (extra "
        "tpu-plan), or cpu:N for N devices of any kind",
    )
    where.add_argument(
        "--devices", type=int, metavar="N", help="short for --topology=cpu:N"
    )
    parser.add_argument(
        "--classes",
        type=int,
        metavar="C",
        help="how many identities; default as in the public training set that the "
        "config is named after",
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="M",
        help="images of the training set, for the number of steps; default 20 a class",
    )
    parser.add_argument(
        "--batch-per-device",
        type=int,
        metavar="B",
        help="replaces data.batch_size by B times the devices",
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="of each device; default: the chip's, 80 for cpu:N",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the plan; exit status 0 where it fits, 3 where it does not."""
    from qface_jax.errors import ConfigError
    from qface_jax.planning import topology, training_sets
    from qface_jax.processes import hosts
    from qface_jax.settings import config as configs

    for name in ("devices", "classes", "images", "batch_per_device", "memory"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: got {value}, must be > 0")
    place = topology.open_topology(args.topology or f"{topology.CPU}:{args.devices}")
    devices = len(place.devices)
    overrides = list(args.overrides)
    if args.batch_per_device is not None:
        rows = args.batch_per_device * devices
        overrides.append(f"--config.data.batch_size={rows}")
    # The data is not opened, so its place need not be known.
    anywhere = ["--config.data.source=auto", "--config.data.path=unknown"]
    config = configs.load(args.config, [*anywhere, *overrides])
    training_set = training_sets.counts(args.config, args.classes, args.images)

    from qface_jax.planning import plan, plan_text
    from qface_jax.sharded import parallel

    def say(what: str) -> None:
        hosts.say(f"compiling {what} for {place.name}")

    if place.chip:
        hosts.say("the compiler of TPUs takes minutes for a deep backbone")

    needs = plan.plan(
        config,
        parallel.make_mesh(place.devices),
        num_classes=training_set.num_classes,
        images=training_set.images,
        say=say,
    )
    memory = DEFAULT_MEMORY if place.chip is None else place.chip.memory / 2**30
    memory = memory if args.memory is None else args.memory
    print(plan_text.title(config, training_set.num_classes, devices))
    print(plan_text.table(needs))
    if place.chip:
        print(f"\n{plan_text.bounds(needs, place)}\n")
    advice = plan_text.advice(needs, config, memory * 2**30)
    print("\n".join(advice) if advice else f"fits into {memory:.4g} GiB per device")
    return 3 if advice else 0


COMMAND = Command(
    summary="bytes per device, before anything is launched",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
