"""What a training says before its first step."""

from typing import Any

import jax
from ml_collections import ConfigDict

from qface_jax import objectives
from qface_jax.processes import hosts
from qface_jax.train.setup import Setup


def announce(config: ConfigDict, source: Any, setup: Setup, first: int) -> None:
    """Says what is trained on what, on which devices, and from which step on.

    Args:
        config: Of the run.
        source: Its training data.
        setup: Its parts.
        first: Updates done so far.
    """
    leaves = jax.tree.leaves(setup.abstract.params["backbone"])
    weights = sum(leaf.size for leaf in leaves)
    hosts.say(
        f"{_objective_name(config)} with {config.model.backbone} ({weights:,} "
        "weights) on "
        f"{_amount(source, setup)}; "
        f"{jax.device_count()} {jax.default_backend()} device(s)"
        + (f" of {hosts.here().count} processes" if hosts.here().count > 1 else "")
        + f", batch {config.data.batch_size}, {setup.length.total_steps:,} "
        "steps"
        + (f", going on after step {first:,}" if first else "")
        + ("" if config.eval.sets else "; eval.sets is empty: no accuracy, no best")
    )


def _objective_name(config: ConfigDict) -> str:
    """What is minimised, in a word or two."""
    if objectives.takes_pairs(config):
        return config.objective
    joint = "" if config.objective == "classification" else f"{config.objective}, "
    return joint + config.loss.margin


def _amount(source: Any, setup: Setup) -> str:
    """How much there is to train on, and what pairs leave out of it."""
    text = f"{len(source):,} images of {source.num_classes:,} identities"
    plan = setup.plan
    if plan is None or not plan.left_out_identities:
        return text
    return (
        f"{text} ({plan.left_out_identities:,} with one image are left out, "
        f"{plan.images:,} images are drawn in pairs)"
    )
