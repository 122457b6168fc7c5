"""The flags that make one run of many processes, and how such a run begins and ends."""

import argparse
import os
import sys
import time
from typing import Any, NamedTuple

from qface_jax.errors import ConfigError
from qface_jax.processes import hosts, roll_call

# What --cluster means -> the classes of JAX that detect it.
CLUSTERS = {
    "slurm": ("SlurmCluster",),
    "openmpi": ("OmpiCluster",),
    "tpu": ("GkeTpuCluster", "GceTpuCluster"),
    "kubernetes": ("K8sCluster",),
}
# How many processes share a host, where the launcher says it.
TASKS_HERE = {
    "slurm": "SLURM_STEP_TASKS_PER_NODE",
    "openmpi": "OMPI_COMM_WORLD_LOCAL_SIZE",
}
KUBERNETES = "whose detection needs pip install 'qface-jax[kubernetes]'"
JOIN_TIMEOUT, HOST_TIMEOUT = 300.0, 60.0
VERDICT = 3.0  # seconds in which the roll call hears of a death
ENDED = (0, 128 + 2, 128 + 15)  # statuses with which all processes end together

_call: roll_call.RollCall | None = None


class Membership(NamedTuple):
    """A process's part in a run.

    Attributes:
        coordinator: Host name or address of process 0.
        port: For JAX's coordination service there; the next one is the roll call's.
        count: Processes of the run.
        index: This one, 0 .. count - 1.
        devices: Indices of the accelerators it takes; None: all of its host.
    """

    coordinator: str
    port: int
    count: int
    index: int
    devices: list[int] | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of a run of many processes."""
    group = parser.add_argument_group(
        "many hosts",
        "Start the same command on every host, see launch/README.md. Without these "
        "flags the run is one process with all devices of this host.",
    )
    group.add_argument(
        "--cluster",
        choices=("auto", *CLUSTERS),
        help="take the processes from the cluster's environment",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="address of process 0; this port and the next one must be reachable",
    )
    group.add_argument("--processes", type=int, metavar="N", help="how many in all")
    group.add_argument(
        "--process", type=int, metavar="I", help="which one this is, 0 .. N - 1"
    )
    group.add_argument(
        "--join-timeout",
        type=float,
        default=JOIN_TIMEOUT,
        metavar="SECONDS",
        help="how long to wait for all to be there; default %(default)g",
    )
    group.add_argument(
        "--host-timeout",
        type=float,
        default=HOST_TIMEOUT,
        metavar="SECONDS",
        help="a process silent for so long ends the run; default %(default)g",
    )


def membership(args: argparse.Namespace) -> Membership | None:
    """Returns this process's part; None where it is the only one.

    Raises:
        ConfigError: if the flags contradict each other or there is no such cluster.
    """
    explicit = {
        name: getattr(args, name) for name in ("coordinator", "processes", "process")
    }
    flags = [f"--{name}" for name, value in explicit.items() if value is not None]
    for name in ("join_timeout", "host_timeout"):
        if not getattr(args, name) > 0:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}: got {getattr(args, name):g}, must be > 0")
    if args.cluster is not None:
        if flags:
            raise ConfigError(
                f"{', '.join(flags)}: --cluster={args.cluster} finds this itself; give "
                "one or the other"
            )
        return _detect(args.cluster, args.join_timeout)
    if not flags:
        return None
    if len(flags) < len(explicit):
        missing = [f"--{name}" for name in explicit if f"--{name}" not in flags]
        raise ConfigError(
            f"{', '.join(flags)} without {', '.join(missing)}: give all three"
        )
    coordinator, port = _address(args.coordinator)
    if not 0 <= args.process < args.processes:
        raise ConfigError(
            f"--process: got {args.process}, must be within 0 .. {args.processes - 1} "
            f"(--processes={args.processes})"
        )
    return Membership(coordinator, port, args.processes, args.process, None)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65535:
        raise ConfigError(
            f"--coordinator: got {text!r}, must be HOST:PORT with a port within "
            "1 .. 65534, for example node0:9900"
        )
    return host.strip("[]"), int(port)


def _detect(kind: str, patience: float) -> Membership:
    """Asks each of JAX's detectors: its public function hides the answers."""
    from jax._src.clusters import ClusterEnv

    known = {detector.__name__: detector for detector in ClusterEnv._cluster_types}
    wanted = CLUSTERS if kind == "auto" else {kind: CLUSTERS[kind]}
    for name, classes in wanted.items():
        for environment in (known[c] for c in classes):
            if environment.is_env_present():
                return _described(name, environment, patience)
    raise ConfigError(
        f"--cluster={kind}: this process was not started by {' or '.join(wanted)}"
        + (f" ({KUBERNETES})" if "kubernetes" in wanted else "")
        + "; give --coordinator, --processes and --process instead"
    )


def _described(name: str, environment: Any, patience: float) -> Membership:
    address = environment.get_coordinator_address(
        timeout_secs=int(patience), override_coordinator_port=None
    )
    coordinator, _, port = address.rpartition(":")
    tasks = os.environ.get(TASKS_HERE.get(name, ""), "")
    local_index = environment.get_local_process_id()
    # Several processes on a host share its accelerators one by one; a process that is
    # alone there takes them all (JAX would leave it the first).
    alone = local_index is None or tasks.split("(")[0] == "1"
    return Membership(
        coordinator.strip("[]"),
        min(int(port), 65534),  # the roll call takes the next one
        environment.get_process_count(),
        environment.get_process_id(),
        None if alone else [local_index],
    )


def join(args: argparse.Namespace) -> None:
    """Makes this process one of the run's; returns when all are there.

    Raises:
        ConfigError: wrong flags.
        NotJoinedError: if not all came in time, naming who is missing.
    """
    global _call
    part = membership(args)
    if part is None:
        return
    import jax

    names = ("this host",)
    if part.count > 1:
        _call = roll_call.gather(
            part.index,
            part.count,
            (part.coordinator, part.port + 1),
            patience=args.join_timeout,
            silence=args.host_timeout,
            on_end=_end_with,
        )
        names = _call.names
    hosts.settle(hosts.Place(part.index, part.count, names))
    if _call is not None:
        _call.watch()
    # SIGTERM is ours: every process learns of it with the step (train/interrupt.py).
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"{part.coordinator}:{part.port}",
        part.count,
        part.index,
        local_device_ids=part.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(args.join_timeout),
        # The roll call is first to know; this is the net below it.
        heartbeat_timeout_seconds=int(2 * args.host_timeout) + 10,
        shutdown_timeout_seconds=int(2 * args.host_timeout) + 10,
    )
    if part.count > 1:
        hosts.say(f"{part.count} processes: {', '.join(names)}")
        _first_meeting()


def _first_meeting() -> None:
    """Connects all devices; gloo's remarks on it are no answer of the command."""
    from qface_jax.processes import agreement
    from qface_jax.sharded import parallel

    sys.stdout.flush()
    answers, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        agreement.meet()
        exchange = agreement.lagged_max(parallel.shardings(parallel.make_mesh()))
        exchange(0)
        exchange(0)
    finally:
        os.dup2(answers, 1)
        os.close(answers)
        os.close(nowhere)


def let_the_lost_be_named() -> None:
    """Waits a moment after an error that a lost process may have caused.

    Where one is lost, the roll call names it and ends this process meanwhile.
    """
    if _call is not None:
        time.sleep(VERDICT)


def leave(status: int, why: str = "") -> int:
    """Ends this process's part in the run; returns the exit status.

    Args:
        status: Exit status of this process.
        why: What went wrong in this process alone, for the others; empty where all
            end alike.
    """
    global _call
    if _call is None:
        return status
    if not why and status not in ENDED:
        why = f"it ended with status {status}"
    _call.leave(status, why)
    if why:
        # The others are not coming to the meeting that an orderly end waits for.
        _exit(status)
    import jax

    jax.distributed.shutdown()
    _call.close()
    _call = None
    return status


def _end_with(process: int, status: int, why: str) -> None:
    """Another process is lost or gave up: without it no step can be finished."""
    who = hosts.named(process)
    if status:
        print(f"{hosts.prefix()}{who} has ended: {why}", file=sys.stderr)
        _exit(status)
    print(
        f"{hosts.prefix()}{who} is lost: {why}; what was saved is whole: start the "
        "same command again on all hosts",
        file=sys.stderr,
    )
    _exit(hosts.EXIT_LOST)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
