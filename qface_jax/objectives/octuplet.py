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
from qface_jax.losses.distance import METRICS
from qface_jax.losses.octuplet import TERMS
from qface_jax.losses.vectors import unit
from qface_jax.objectives.classification import mean_over, raw_norms
from qface_jax.objectives.objective import Objective, ObjectiveEntry, Outcome
from qface_jax.options import NOT_NEGATIVE, Option, Rule
from qface_jax.sharded import octuplet as sharded_octuplet

LOW, HIGH = 0, 1  # views of an image
ORIGINAL = "original"  # in the state: the encoder that training started from
OPTIONS = {
    "metric": Option(
        "euclidean",
        Rule(lambda v: v in METRICS, "must be euclidean, euclidean_squared or cosine"),
        "Distance: euclidean, euclidean_squared or cosine.",
    ),
    "margin": Option(25.0, NOT_NEGATIVE, "m, in units of the metric."),
    "terms": Option(
        TERMS,
        Rule(
            lambda v: len(v) > 0 and len(set(v)) == len(v) and set(v) <= set(TERMS),
            "must be one or more of hhh, hll, lhh, lll, each once",
        ),
        "Views (h: high, l: low resolution) of anchor, positive and negative of each "
        "term.",
    ),
    "normalize": Option(False, None, "Features to length 1 first; cosine always does."),
    # Beyond the paper: weights of the squared distance of the features from those of
    # the original images in the model that training started from, as a share of their
    # squared length.
    "keep_high_weight": Option(
        0.0, NOT_NEGATIVE, "Of the drift of the originals' features."
    ),
    "keep_low_weight": Option(
        0.0, NOT_NEGATIVE, "Of the drift of the features at low resolution."
    ),
}


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


def _build(
    config: ConfigDict, options: dict, num_classes: int, mesh: Mesh
) -> Objective:
    """Returns the octuplet objective.

    L = L_oct + keep_high D(f_high, o_high) + keep_low D(f_low, o_high)

    L_oct is eq. 11 of the paper, D the `relative_drift` from the features o of the
    original images in the model at the start. The last two terms are not in the paper;
    they are off where their weights are 0.
    """
    terms = tuple(term in options["terms"] for term in TERMS)
    drifts = {
        "drift_high": (HIGH, options["keep_high_weight"]),
        "drift_low": (LOW, options["keep_low_weight"]),
    }
    keeps = any(weight for _, weight in drifts.values())

    def loss(encode, params, batch, context):
        images, labels = batch["images"], batch["labels"]
        features, stats = encode.train(params["backbone"], images)
        high, low = features[:, HIGH], features[:, LOW]
        value, metrics = sharded_octuplet.octuplet(
            mesh,
            high,
            low,
            labels,
            margin=options["margin"],
            metric=options["metric"],
            terms=terms,
            normalize=options["normalize"],
        )
        valid = labels >= 0
        metrics = metrics | {
            "loss_octuplet": value,
            "norm": mean_over(raw_norms(high), valid),
            "norm_low": mean_over(raw_norms(low), valid),
            "similarity_views": mean_over(positive_cosine(unit(low), high), valid),
        }
        if keeps:
            original = encode.evaluate(context.state[ORIGINAL], images[:, HIGH])
            for name, (view, weight) in drifts.items():
                drift = relative_drift(features[:, view], original, labels)
                value = value + weight * drift
                metrics[name] = drift
        metrics = jax.lax.stop_gradient(metrics)
        return value, Outcome(stats, context.state, metrics)

    def start(state, encoder):
        return state | {ORIGINAL: encoder} if keeps else state

    return Objective(init=lambda key: ({}, {}), loss=loss, start=start)


OBJECTIVE = ObjectiveEntry(
    _build, options=OPTIONS, reads=("octuplet",), views=2, pairs=True
)
