"""Rows walked in equal chunks, the last one moved back to fit."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def count_and_size(rows: int, chunk: int) -> tuple[int, int]:
    """Returns how many equal chunks cover the rows, and their length.

    Args:
        rows: At least 1.
        chunk: Most rows of a chunk, at least 1.

    >>> count_and_size(10, 4)
    (3, 4)
    """
    count = -(-rows // chunk)
    return count, -(-rows // count)


def bounds(
    index: int | Int[Array, ""], rows: int, chunk: int
) -> tuple[Int[Array, ""], Bool[Array, " m"]]:
    """Returns the first row of a chunk, [], and which of its rows are new, [m].

    Where the length does not divide the rows, the last chunk begins earlier, and its
    first rows were seen before.

    Args:
        index: Number of the chunk.
        rows: Of all chunks.
        chunk: As in `count_and_size`.
    """
    _, size = count_and_size(rows, chunk)
    start = jnp.minimum(index * size, rows - size)
    return start, start + jnp.arange(size) >= index * size
