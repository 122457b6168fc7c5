"""What every backbone is made into, whoever describes it: three pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Network(NamedTuple):
    """A backbone before the batch is cut into groups (models/factory.py).

    Attributes:
        init: key -> (params, stats).
        evaluate: (params, stats, images [b, h, w, 3]) -> features [b, d], float32.
        train: (params, stats, images, key) -> (features, new stats); `key` may be None
            where nothing is dropped out.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    evaluate: Callable[..., jax.Array]
    train: Callable[..., tuple[jax.Array, Any]]
