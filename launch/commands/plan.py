"""`qface plan`: what a run needs on each device, before anything is launched."""

import argparse

from qface_jax.launch.commands.command import Command

DESCRIPTION = """Compile a config's training step for a number of devices that need not
exist and print, for each of them, the bytes that it needs, by item, what it computes
and sends in a step, the global batch and the number of steps; when it does not fit,
what to change."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("--config", required=True, metavar="NAME", help="as in train")
    parser.add_argument(
        "--devices", type=int, required=True, metavar="N", help="how many devices"
    )
    parser.add_argument(
        "--classes", type=int, required=True, metavar="C", help="how many identities"
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
        default=80.0,
        metavar="GIB",
        help="of each device; default 80",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the plan; exit status 0 where it fits, 3 where it does not."""
    from qface_jax.errors import ConfigError
    from qface_jax.settings import config as configs

    for name in ("devices", "classes", "images", "batch_per_device", "memory"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: got {value}, must be > 0")
    overrides = list(args.overrides)
    if args.batch_per_device is not None:
        rows = args.batch_per_device * args.devices
        overrides.append(f"--config.data.batch_size={rows}")
    # The data is not opened, so its place need not be known.
    anywhere = ["--config.data.source=auto", "--config.data.path=unknown"]
    config = configs.load(args.config, [*anywhere, *overrides])

    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.devices)

    from qface_jax.planning import plan, plan_text
    from qface_jax.sharded import parallel

    images = args.images if args.images is not None else 20 * args.classes
    mesh = parallel.make_mesh()
    needs = plan.plan(config, mesh, num_classes=args.classes, images=images)
    print(plan_text.title(config, args.classes, args.devices))
    print(plan_text.table(needs))
    advice = plan_text.advice(needs, config, int(args.memory * 2**30))
    print("\n".join(advice) if advice else f"fits into {args.memory:g} GiB per device")
    return 3 if advice else 0


COMMAND = Command(
    summary="bytes per device, before anything is launched",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
