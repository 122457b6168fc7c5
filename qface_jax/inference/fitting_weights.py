"""Weights that do not fit the network which a run's config describes."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from qface_jax.errors import ConfigError
from qface_jax.models import Model
from qface_jax.runs.digest_record import described
from qface_jax.runs.saved_tree import leaves

_SHOWN = 4


@contextlib.contextmanager
def named_misfit(model: Model, params: Any, stats: Any) -> Iterator[None]:
    """Says which weights do not fit where they are why the network cannot be applied.

    Only then are the shapes compared, which takes seconds for a large network.

    Args:
        model: That is applied.
        params: Its parameters as they were read.
        stats: Its running statistics.

    Raises:
        ConfigError: naming the arrays that are missing, left over or of another shape.
    """
    try:
        yield
    except Exception as error:
        expected = jax.eval_shape(model.init, jax.random.key(0))
        want = leaves(dict(zip(("params", "stats"), expected, strict=True)))
        have = leaves({"params": params, "stats": stats})
        problems = [f"{name}: is missing" for name in want if name not in have]
        problems += [f"{name}: is left over" for name in have if name not in want]
        problems += [
            f"{name}: {described(have[name])}, expected {described(want[name])}"
            for name in want
            if name in have and have[name].shape != want[name].shape
        ]
        if not problems:
            raise
        more = len(problems) - _SHOWN
        shown = [*problems[:_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
        raise ConfigError(
            f"the weights are not those of the network that the run's config describes "
            f"({'; '.join(shown)}): its config.json was edited, or is another run's; "
            "put back a copy of the file"
        ) from error
