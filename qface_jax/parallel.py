"""The mesh and the shardings; the only file that names mesh axes.

There is one axis, `data`: the batch and the class centres are both cut over all
devices, so adding devices shrinks each one's share of either. Statistics over the batch
(batch norm, feature norms) are therefore those of the global batch.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA = "data"


class Shardings(NamedTuple):
    """How arrays lie on the mesh.

    Attributes:
        rows: Leading axis cut over all devices: batches, class centres.
        replicated: A whole copy on every device.
    """

    rows: NamedSharding
    replicated: NamedSharding


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Returns the mesh of all devices (or of those given), axes ('data',)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), (DATA,), axis_types=(AxisType.Auto,), devices=devices
    )


def shardings(mesh: Mesh) -> Shardings:
    """Returns the two shardings that this project uses."""
    return Shardings(NamedSharding(mesh, P(DATA)), NamedSharding(mesh, P()))


def to_device(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, Any]:
    """Puts this host's rows of a batch on its devices as one global array each."""
    return {
        name: jax.make_array_from_process_local_data(sharding, rows)
        for name, rows in batch.items()
    }


def whole_to_device(rows: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Cuts an array that every host holds whole over the devices, as one array."""
    return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])


def replicate(tree: Any, shardings: Shardings) -> Any:
    """Puts a pytree of host arrays on every device, whole."""
    return jax.device_put(tree, shardings.replicated)
