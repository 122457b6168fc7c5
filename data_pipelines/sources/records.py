"""Labelled images with random access: what every source offers."""

from typing import Protocol, runtime_checkable

import numpy as np

from qface_jax.errors import printable


class Source(Protocol):
    """A set of labelled, encoded images with random access."""

    name: str
    num_classes: int

    def __len__(self) -> int:
        """Returns n, the count of images."""

    def labels(self) -> np.ndarray:
        """Returns int32 [n], 0 .. num_classes-1."""

    def fetch(self, indices: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Returns encoded images and int32 labels of the records; thread-safe."""

    def describe(self) -> dict:
        """Returns json-able facts: source, path, images, identities, notes."""


@runtime_checkable
class NamesRecords(Protocol):
    """A source that can say where a record comes from."""

    def record_name(self, index: int) -> str:
        """Returns file and key of record `index`, for messages."""


def record_name(source: Source, index: int) -> str:
    """Returns where record `index` of any source comes from, for messages."""
    if isinstance(source, NamesRecords):
        return printable(source.record_name(index))
    return f"{source.name}: record {index}"
