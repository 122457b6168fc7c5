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


def to_device(batch: Any, sharding: NamedSharding) -> Any:
    """Puts this host's rows of a batch on its devices as one global array each."""
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch
    )


class LocalRows:
    """This process's rows of an array that is cut over all devices.

    `numpy.asarray` waits for them; until then the devices may still be at work.
    """

    def __init__(self, array: jax.Array):
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns the rows."""
        parts = sorted(
            self._array.addressable_shards, key=lambda part: part.index[0].start or 0
        )
        rows = np.concatenate([np.asarray(part.data) for part in parts])
        return rows if dtype is None else rows.astype(dtype, copy=False)


def replicate(tree: Any, shardings: Shardings) -> Any:
    """Puts a pytree of arrays that every host holds on every device, whole."""

    def put(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(
            leaf.shape, shardings.replicated, lambda index: leaf[index]
        )

    return jax.tree.map(put, tree)
