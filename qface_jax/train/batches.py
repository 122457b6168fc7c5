"""A run's training batches, as its config and objective want them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.data_pipelines.degradation.recipe import draws_pairs, params_of
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.stream.pair_plan import PairPlan
from qface_jax.processes import hosts


def pair_plan(config: ConfigDict, source: Any) -> PairPlan | None:
    """Returns which records a step takes; None where an epoch takes each once.

    Also None for counts without labels, which `qface plan` gives in place of data.

    Args:
        config: The whole config.
        source: The training data.

    Raises:
        DataError: the objective takes pairs, and too few identities have two images.
    """
    if not objectives.takes_pairs(config) or not hasattr(source, "labels"):
        return None
    batch_size = config.data.batch_size
    return PairPlan(source.labels(), batch_size=batch_size, seed=config.seed)


def stream(
    config: ConfigDict,
    source: Any,
    plan: PairPlan | None,
    *,
    start_step: int,
    total_steps: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this host's rows of the batches of steps start .. total - 1.

    Args:
        config: The whole config.
        source: The training data.
        plan: From `pair_plan`.
        start_step: The first step, at least 0.
        total_steps: One past the last step.
    """
    recipe = config.degrade.recipe
    alone = objectives.views(config) == 1 or draws_pairs(recipe)
    return faces.stream(
        source,
        batch_size=config.data.batch_size,
        recipe=recipe,
        params=params_of(config),
        beside=None if alone else config.degrade.clean,
        plan=plan,
        seed=config.seed,
        start_step=start_step,
        total_steps=total_steps,
        host=hosts.here().index,
        hosts=hosts.here().count,
        workers=config.data.workers,
        resize=config.data.resize,
    )
