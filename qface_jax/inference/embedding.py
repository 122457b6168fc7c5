"""What turns pictures into features on the devices, for a state or a saved run."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from qface_jax import models
from qface_jax.runs.checkpoint import load_parts
from qface_jax.runs.run_folder import Run
from qface_jax.sharded import parallel

# This host's images uint8 [b, 112, 112, 3] -> their raw features [b, d], when read.
Embed = Callable[[np.ndarray], np.ndarray]
_PARTS = ("params/backbone", "stats")


def build_embedder(model: models.Model, shard: parallel.Shardings) -> Any:
    """Returns jitted (backbone, stats, images uint8 [b, ...]) -> features [b, d]."""
    return jax.jit(partial(models.embed, model), out_shardings=shard.rows)


def embedder(
    embed_fn: Any, backbone: Any, stats: Any, shard: parallel.Shardings
) -> Embed:
    """Returns what embeds this host's rows of a batch.

    Args:
        embed_fn: From `build_embedder`.
        backbone: Parameters, on the devices.
        stats: Running statistics, on the devices.
        shard: Where batches go.
    """

    def embed(images):
        batch = parallel.to_device(np.ascontiguousarray(images), shard.rows)
        return parallel.LocalRows(embed_fn(backbone, stats, batch))

    return embed


def run_embedder(run: Run, which: str) -> tuple[int, Embed]:
    """Returns the step of a run's checkpoint and what embeds by its model.

    Args:
        run: Any run, trained or imported.
        which: "last" or "best".

    Raises:
        ConfigError: The run has no such checkpoint.
        UserError: It is damaged.
    """
    step, saved = load_parts(run.path, which, _PARTS)
    shard = parallel.shardings(parallel.make_mesh())
    embed_fn = build_embedder(models.build(run.config.model), shard)
    backbone, stats = (parallel.replicate(saved[part], shard) for part in _PARTS)
    return step, embedder(embed_fn, backbone, stats, shard)
