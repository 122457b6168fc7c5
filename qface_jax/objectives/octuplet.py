"""Octuplet loss: pairs of images of each identity, each at high and low resolution.

There is no classifier. Optionally the features are kept close to those of the model
that training started from, so that what it could do at high resolution is not lost.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from qface_jax.losses.contrast import positive_cosine
from qface_jax.losses.octuplet import TERMS
from qface_jax.losses.vectors import unit
from qface_jax.objectives.classification import mean_over, raw_norms
from qface_jax.objectives.objective import Objective
from qface_jax.sharded import octuplet as sharded_octuplet

LOW, HIGH = 0, 1  # views of an image


def relative_drift(
    features: Float[Array, "b d"],
    original: Float[Array, "b d"],
    labels: Int[Array, " b"],
) -> Float[Array, ""]:
    """Returns how far features are from the original model's, 0 where they are equal.

    sum_i ||f_i - o_i||^2 / sum_i ||o_i||^2, over the rows that have a label.

    Args:
        features: Raw features, [b, d].
        original: Those of the model at the start, [b, d]; without gradient.
        labels: Identity of each row, int32 [b]; -1: padding.
    """
    original = jax.lax.stop_gradient(original)
    valid = (labels >= 0)[:, None]
    moved = jnp.sum(jnp.where(valid, (features - original) ** 2, 0.0))
    size = jnp.sum(jnp.where(valid, original**2, 0.0))
    return moved / jnp.maximum(size, 1e-12)


def build(config: ConfigDict, num_classes: int, mesh: Mesh) -> Objective:
    """Returns the octuplet objective of `config.octuplet`.

    L = L_oct + keep_high D(f_high, o_high) + keep_low D(f_low, o_high)

    L_oct is eq. 11 of the paper, D the `relative_drift` from the features o of the
    original images in the model at the start. The last two terms are not in the paper;
    they are off where their weights are 0.

    Args:
        config: The whole config, validated.
        num_classes: Identities of the training set; the loss needs none.
        mesh: Mesh of all devices.
    """
    del num_classes
    group = config.octuplet
    terms = tuple(term in group.terms for term in TERMS)
    keeps = {HIGH: group.keep_high_weight, LOW: group.keep_low_weight}

    def loss(features, params, batch, state, sample, centres, key):
        del params, sample, centres, key
        labels = batch["labels"]
        high, low = features[:, HIGH], features[:, LOW]
        value, metrics = sharded_octuplet.octuplet(
            mesh,
            high,
            low,
            labels,
            margin=group.margin,
            metric=group.metric,
            terms=terms,
            normalize=group.normalize,
        )
        valid = labels >= 0
        metrics = metrics | {
            "loss_octuplet": value,
            "norm": mean_over(raw_norms(high), valid),
            "norm_low": mean_over(raw_norms(low), valid),
            "similarity_views": mean_over(positive_cosine(unit(low), high), valid),
        }
        for view, name in ((HIGH, "drift_high"), (LOW, "drift_low")):
            if "original" in batch:
                drift = relative_drift(features[:, view], batch["original"], labels)
                value = value + keeps[view] * drift
                metrics[name] = drift
        return value, state, jax.lax.stop_gradient(metrics)

    return Objective(
        init=lambda key: ({}, {}),
        sample=lambda batch, key: None,
        loss=loss,
        compares_with_start=any(keeps.values()),
    )
