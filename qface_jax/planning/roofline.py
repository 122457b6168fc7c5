"""The least time that a step can take on a chip, from what the chip can do at most.

A bound and no forecast: arithmetic, memory and network each at the rate published, and
all at the same time (Williams et al. 2009, "Roofline").
"""

from typing import NamedTuple

from qface_jax.planning.topology import Chip


class Bound(NamedTuple):
    """Least seconds of a step, by what takes them.

    Attributes:
        work: Matrix products and convolutions.
        memory: Bytes between memory and core.
        network: Bytes sent to other chips.
    """

    work: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """Least time of the step."""
        return max(self)

    @property
    def utilisation(self) -> float:
        """Largest share of the chip's arithmetic that the step can use, 0 to 1."""
        return self.work / self.seconds

    @property
    def limit(self) -> str:
        """What takes the longest."""
        return max(zip(self, self._fields, strict=True))[1]


def bound(chip: Chip, *, work: int, moved: int, sent: int) -> Bound:
    """Returns the bound of a step.

    Args:
        chip: That it runs on.
        work: Floating point operations of a chip.
        moved: Bytes between its memory and its core.
        sent: Bytes that it sends.
    """
    return Bound(work / chip.work, moved / chip.memory_rate, sent / chip.network_rate)
