"""Collectives over the processes of a run, by which all of them do the same.

Every function must be called by all processes, in the same order. In a run of one
process each does what it says without any communication.
"""

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from qface_jax.errors import ConfigError
from qface_jax.processes import hosts
from qface_jax.sharded.parallel import Shardings


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the rows of all processes, in their order, bit for bit.

    Args:
        rows: Any type, [k, ...]; k may differ from process to process and be 0, the
            rest not.
    """
    if hosts.place().count == 1:
        return rows
    rows = np.ascontiguousarray(rows)
    # As bytes: JAX would turn float64 into float32.
    size = rows.itemsize * int(np.prod(rows.shape[1:]))
    counts = multihost_utils.process_allgather(np.int32(len(rows)))
    padded = np.zeros((int(counts.max()), size), np.uint8)
    padded[: len(rows)] = rows.reshape(-1).view(np.uint8).reshape(len(rows), size)
    gathered = multihost_utils.process_allgather(padded)
    joined = np.concatenate(
        [block[:count] for block, count in zip(gathered, counts, strict=True)]
    )
    return joined.reshape(-1).view(rows.dtype).reshape(-1, *rows.shape[1:])


def first_says(answer: bool) -> bool:
    """Returns process 0's answer on all of them."""
    return bool(gather_rows(np.array([answer]))[0])


def any_says(answer: bool) -> bool:
    """Returns, on all processes, whether any of them answers yes."""
    return bool(gather_rows(np.array([answer])).any())


def meet() -> None:
    """Waits until all processes have called this (a barrier)."""
    gather_rows(np.zeros(1, np.uint8))


def refuse_difference(what: str, text: str) -> None:
    """Raises ConfigError where a process has another text than process 0.

    Args:
        what: What the text is and how to mend a difference, for the message: "the
            config: give all ...".
        text: The text of this process.
    """
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    digests = gather_rows(digest[None])
    other = np.flatnonzero((digests != digests[0]).any(axis=1))
    if len(other):
        who = ", ".join(hosts.named(int(i)) for i in other)
        raise ConfigError(f"{who} differs from {hosts.named(0)} in {what}")


def lagged_max(shardings: Shardings) -> Callable[[int], int]:
    """Returns a function from this process's number to the largest of all processes'.

    Among several processes the answer is that of the call before (0 at first), so
    that nobody has to wait for the devices' work of this step. All processes get the
    same answer from the same call.

    Args:
        shardings: Of a mesh that has all devices of the run.
    """
    if hosts.place().count == 1:
        return int
    devices = shardings.rows.mesh.size
    largest = jax.jit(jnp.max, out_shardings=shardings.replicated)
    pending = [None]

    def exchange(number: int) -> int:
        row = np.full(1, number, np.int32)
        numbers = jax.make_array_from_callback(
            (devices,), shardings.rows, lambda _: row
        )
        before, pending[0] = pending[0], largest(numbers)
        return 0 if before is None else int(before)

    return exchange
