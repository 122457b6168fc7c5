"""Which pairs of a set a host embeds, and how the hosts' findings come together."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def _alone(rows: np.ndarray) -> np.ndarray:
    return rows


class Share(NamedTuple):
    """One host's part of an evaluation; alone, it is the whole.

    A host decodes, embeds and keeps its own pairs only. What is gathered is one number
    per pair or image: distances, norms.

    Attributes:
        index: This host, 0 .. count - 1.
        count: Hosts.
        gather: Rows of this host [k, ...] -> rows of all hosts, in their order.
    """

    index: int = 0
    count: int = 1
    gather: Callable[[np.ndarray], np.ndarray] = _alone

    def pairs(self, total: int) -> range:
        """Returns the pairs of this host: one contiguous part of 0 .. total - 1."""
        most = self.most_pairs(total)
        first = min(self.index * most, total)
        return range(first, min(first + most, total))

    def most_pairs(self, total: int) -> int:
        """Returns the largest number of pairs that a host has."""
        return -(-total // self.count)


ALONE = Share()
