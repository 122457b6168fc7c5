"""Devices that a step is compiled for and that need not be there: CPUs and TPUs.

A name is `cpu:N` for N devices, or a TPU's generation and how its chips are laid out,
as `v5e:4x8` or `v5p:4x4x4`. The compiler of TPUs is in the package libtpu, which runs
without one.
"""

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

from qface_jax.errors import ConfigError, UserError

EXTRA = "tpu-plan"
CPU = "cpu"


class Chip(NamedTuple):
    """What is published of a chip (cloud.google.com/tpu/docs, October 2026).

    Attributes:
        work: Floating point operations per second, bfloat16.
        memory: Bytes.
        memory_rate: Bytes per second between memory and core.
        network_rate: Bytes per second to all neighbours together, one way.
    """

    work: float
    memory: float
    memory_rate: float
    network_rate: float


CHIPS = {
    "v5e": Chip(197e12, 16e9, 819e9, 200e9),
    "v5p": Chip(459e12, 95e9, 2765e9, 600e9),
    "v6e": Chip(918e12, 32e9, 1638e9, 400e9),
}


class Topology(NamedTuple):
    """Devices of one kind.

    Attributes:
        name: As asked for.
        devices: Of JAX; they compile, and do not run if they are not there.
        chip: What is published of each; None for CPUs.
    """

    name: str
    devices: Sequence[jax.Device]
    chip: Chip | None


def open_topology(name: str) -> Topology:
    """Returns the devices of a name; call it before JAX has looked for devices.

    Raises:
        ConfigError: there is no such topology.
        UserError: a package is missing.
    """
    kind, _, layout = name.partition(":")
    if kind == CPU:
        return _cpus(name, layout)
    if kind not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", layout):
        known = ", ".join(CHIPS)
        raise ConfigError(
            f"--topology: got {name!r}, expected cpu:N or a TPU ({known}) with its "
            "layout, as v5e:4x8 or v5p:4x4x4"
        )
    return Topology(name, _tpus(name), CHIPS[kind])


def _cpus(name: str, count: str) -> Topology:
    if not re.fullmatch(r"[1-9]\d{0,4}", count):
        raise ConfigError(f"--topology: got {name!r}, expected cpu:N as cpu:8")
    jax.config.update("jax_platforms", CPU)
    jax.config.update("jax_num_cpu_devices", int(count))
    return Topology(name, jax.devices(), None)


def _tpus(name: str) -> Sequence[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={name} needs the compiler of TPUs: pip install "
            f"'qface_jax[{EXTRA}]' (0.7 GB, Linux); --topology=cpu:N plans without it"
        )
    # libtpu looks for a chip and its hosts, and says at length that there is none.
    for variable, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }.items():
        os.environ.setdefault(variable, value)
    jax.config.update("jax_platforms", CPU)
    from jax.experimental import topologies
    from jax.experimental.compilation_cache import compilation_cache

    # JAX 0.10 writes what it compiled for a TPU into its cache, and cannot read it. It
    # looks once whether it has one.
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()

    try:
        return topologies.get_topology_desc(name, "tpu").devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--topology={name}: no such slice ({reason})") from error
